-- One row for each meaning of a mail (its key): whoever means to send it again finds here what became of it.

CREATE TABLE skycap.mail_ledger (
    key            TEXT PRIMARY KEY,
    message_id     TEXT NOT NULL UNIQUE,
    kind           TEXT NOT NULL,
    job_id         TEXT NOT NULL,               -- the run that holds the row: a job, and the number of its claim
    claim          BIGINT NOT NULL,
    recipient_hash TEXT NOT NULL,               -- sha256 of the normalised address, in hex; addresses are not kept
    template       TEXT NOT NULL,
    locale         TEXT,
    state          TEXT NOT NULL CHECK (
        state IN ('intent', 'sending', 'dot', 'sent', 'deferred', 'failed', 'unknown', 'suppressed')
    ),
    sends          INTEGER NOT NULL DEFAULT 0,  -- copies that the mail server may have taken
    smtp_code      INTEGER,
    smtp_text      TEXT,                        -- without addresses
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What an admin watches, and the erasure of a person.
CREATE INDEX mail_ledger_ambiguous ON skycap.mail_ledger (updated_at) WHERE state IN ('dot', 'unknown');
CREATE INDEX mail_ledger_recipient ON skycap.mail_ledger (recipient_hash);

-- May this run send this mail? 'proceed' gives it the row, in state 'sending'. The other answers do not:
--   sent   it was sent before              busy   another job is at it
--   lost   a later claim of the same job holds the row
--   held   it may have been sent before: once is too often for the policy hold, most_sends times for the policy
--          resend; the row is 'unknown' until an admin decides
-- A row of another job counts as left behind when it has not moved for stale_after.
CREATE FUNCTION skycap.mail_begin_v1(
    mail_key TEXT, new_message_id TEXT, job_kind TEXT, job TEXT, job_claim BIGINT, recipient TEXT,
    template_name TEXT, template_locale TEXT, hold BOOLEAN, most_sends INTEGER, stale_after INTERVAL
) RETURNS TABLE (verdict TEXT, first_message_id TEXT, first_intent TIMESTAMPTZ)
LANGUAGE plpgsql AS $$
DECLARE
    mail skycap.mail_ledger;
BEGIN
    -- No conflict target: two who insert at once must not meet as an error in the other unique index.
    INSERT INTO skycap.mail_ledger (key, message_id, kind, job_id, claim, recipient_hash, template, locale, state)
    VALUES (mail_key, new_message_id, job_kind, job, job_claim, recipient, template_name, template_locale, 'sending')
    ON CONFLICT DO NOTHING
    RETURNING * INTO mail;
    IF FOUND THEN
        RETURN QUERY SELECT 'proceed', mail.message_id, mail.created_at;
        RETURN;
    END IF;

    SELECT * INTO STRICT mail FROM skycap.mail_ledger WHERE key = mail_key FOR UPDATE;
    verdict := CASE
        WHEN mail.state IN ('sent', 'suppressed') THEN 'sent'
        WHEN mail.job_id = job AND mail.claim > job_claim THEN 'lost'
        WHEN mail.state IN ('sending', 'dot') AND mail.job_id <> job AND mail.updated_at > now() - stale_after THEN 'busy'
        WHEN mail.state IN ('sending', 'dot', 'unknown')
            AND mail.sends >= CASE WHEN hold THEN 1 ELSE most_sends END THEN 'held'
        ELSE 'proceed'
    END;

    IF verdict = 'proceed' THEN
        UPDATE skycap.mail_ledger
        SET state = 'sending', kind = job_kind, job_id = job, claim = job_claim, recipient_hash = recipient,
            template = template_name, locale = template_locale, updated_at = now()
        WHERE key = mail_key;
    ELSIF verdict = 'held' THEN
        UPDATE skycap.mail_ledger SET state = 'unknown', updated_at = now() WHERE key = mail_key;
    END IF;
    RETURN QUERY SELECT verdict, mail.message_id, mail.created_at;
END
$$;
