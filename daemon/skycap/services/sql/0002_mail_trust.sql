-- Who must not be written to, and what proves that something that comes back is about a mail of ours.

CREATE TABLE skycap.secrets (
    name       TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Signs unsubscribe links and return addresses: 244 random bits. With another value, those in mails that were sent
-- would be useless.
INSERT INTO skycap.secrets (name, value)
VALUES ('mail', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''))
ON CONFLICT DO NOTHING;

CREATE TABLE skycap.mail_suppressions (
    recipient_hash  TEXT PRIMARY KEY,           -- as in mail_ledger
    reason          TEXT NOT NULL CHECK (reason IN ('bounce', 'complaint', 'refused', 'manual')),
    detail          TEXT,                       -- without addresses
    count           INTEGER NOT NULL DEFAULT 1, -- mails that speak for it
    last_message_id TEXT,                       -- the last of them: the same mail does not speak twice
    is_effective    BOOLEAN NOT NULL,           -- not yet, when one mail is not proof enough
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at      TIMESTAMPTZ                 -- NULL: for ever
);

CREATE TABLE skycap.unsubscribe_links (
    token_hash TEXT PRIMARY KEY,                -- sha256 of the link's token, in hex
    plugin     TEXT NOT NULL,                   -- whose unsubscribe function is asked
    who        JSONB NOT NULL,                  -- and what it is given
    locale     TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

ALTER TABLE skycap.mail_ledger
    ADD COLUMN generation    INTEGER NOT NULL DEFAULT 1,            -- how often this key has meant a new mail
    ADD COLUMN trying_since  TIMESTAMPTZ NOT NULL DEFAULT now(),    -- from when a mail that is put off gets too old
    ADD COLUMN verp_token    TEXT UNIQUE,                           -- what this mail's return address carries
    ADD COLUMN bounced_at    TIMESTAMPTZ,
    ADD COLUMN bounce_status TEXT,                                  -- RFC 3463, such as 5.1.1
    ADD COLUMN complained_at TIMESTAMPTZ,
    ADD COLUMN note          TEXT;                                  -- of whom or what moved it; without addresses

CREATE INDEX mail_ledger_failed ON skycap.mail_ledger (updated_at) WHERE state = 'failed';

-- As mail_begin_v1, which daemons that were started before go on using, and besides:
--   suppressed   the recipient is on the list; the row says so until the mail is asked for again
-- With repeat_after, a mail that ended and was first meant so long ago is a new one to another job: it starts over, as
-- the key's next generation. Not so to its own job, which may only have lost the news that it was sent.
CREATE FUNCTION skycap.mail_begin_v2(
    mail_key TEXT, new_message_id TEXT, job_kind TEXT, job TEXT, job_claim BIGINT, recipient TEXT,
    template_name TEXT, template_locale TEXT, hold BOOLEAN, most_sends INTEGER, stale_after INTERVAL,
    repeat_after INTERVAL, return_token TEXT
) RETURNS TABLE (
    verdict TEXT, first_message_id TEXT, first_intent TIMESTAMPTZ, tried_since TIMESTAMPTZ,
    suppressed_for TEXT, suppressed_since TIMESTAMPTZ
)
LANGUAGE plpgsql AS $$
DECLARE
    mail skycap.mail_ledger;
    suppression skycap.mail_suppressions;
    allowed TEXT := 'proceed';
    is_new BOOLEAN;
BEGIN
    SELECT * INTO suppression FROM skycap.mail_suppressions AS list
    WHERE list.recipient_hash = recipient AND list.is_effective AND (list.expires_at IS NULL OR list.expires_at > now());
    IF FOUND THEN
        allowed := 'suppressed';
    END IF;

    -- No conflict target: two who insert at once must not meet as an error in another unique index.
    INSERT INTO skycap.mail_ledger (
        key, message_id, kind, job_id, claim, recipient_hash, template, locale, verp_token, state
    )
    VALUES (
        mail_key, new_message_id, job_kind, job, job_claim, recipient, template_name, template_locale, return_token,
        CASE allowed WHEN 'proceed' THEN 'sending' ELSE 'suppressed' END
    )
    ON CONFLICT DO NOTHING
    RETURNING * INTO mail;
    IF FOUND THEN
        RETURN QUERY SELECT
            allowed, mail.message_id, mail.created_at, mail.trying_since, suppression.reason, suppression.created_at;
        RETURN;
    END IF;

    SELECT * INTO STRICT mail FROM skycap.mail_ledger AS ledger WHERE ledger.key = mail_key FOR UPDATE;
    is_new := coalesce(
        mail.state IN ('sent', 'failed', 'suppressed') AND mail.job_id <> job
            AND mail.created_at <= now() - repeat_after,
        FALSE
    );
    verdict := CASE
        WHEN is_new THEN allowed
        WHEN mail.state = 'sent' THEN 'sent'
        WHEN mail.job_id = job AND mail.claim > job_claim THEN 'lost'
        WHEN mail.state IN ('sending', 'dot') AND mail.job_id <> job AND mail.updated_at > now() - stale_after THEN 'busy'
        WHEN mail.state IN ('sending', 'dot', 'unknown')
            AND mail.sends >= CASE WHEN hold THEN 1 ELSE most_sends END THEN 'held'
        ELSE allowed
    END;

    IF is_new THEN
        UPDATE skycap.mail_ledger AS ledger
        SET generation = mail.generation + 1, sends = 0, created_at = now(), trying_since = now(),
            message_id = regexp_replace(new_message_id, '\.([^.@]*@)', '.' || (mail.generation + 1) || '.\1'),
            smtp_code = NULL, smtp_text = NULL, bounced_at = NULL, bounce_status = NULL, complained_at = NULL, note = NULL
        WHERE ledger.key = mail_key;
    END IF;
    IF verdict IN ('proceed', 'suppressed') THEN
        UPDATE skycap.mail_ledger AS ledger
        SET state = CASE verdict WHEN 'proceed' THEN 'sending' ELSE 'suppressed' END,
            kind = job_kind, job_id = job, claim = job_claim, recipient_hash = recipient, template = template_name,
            locale = template_locale, verp_token = return_token, updated_at = now(),
            -- A mail that was given up, or that nobody has tried for a day, is tried anew for as long as the first time.
            trying_since = CASE
                WHEN mail.state IN ('failed', 'suppressed') OR mail.updated_at < now() - INTERVAL '1 day' THEN now()
                ELSE ledger.trying_since
            END
        WHERE ledger.key = mail_key
        RETURNING * INTO mail;
    ELSIF verdict = 'held' THEN
        UPDATE skycap.mail_ledger AS ledger SET state = 'unknown', updated_at = now() WHERE ledger.key = mail_key;
    END IF;
    RETURN QUERY SELECT
        verdict, mail.message_id, mail.created_at, mail.trying_since, suppression.reason, suppression.created_at;
END
$$;
