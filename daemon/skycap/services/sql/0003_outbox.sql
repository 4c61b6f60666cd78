-- Jobs that are enqueued in a transaction of the backend: they exist if and only if it commits. A relay in every daemon
-- moves them to Redis.

CREATE TABLE skycap.outbox (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    payload     JSONB NOT NULL,
    options     JSONB NOT NULL,                 -- the other members of the request, with times instead of delays
    bytes       INTEGER NOT NULL,               -- of the payload as text
    enqueued_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    relayed_at  TIMESTAMPTZ,                    -- NULL: it waits
    problem     TEXT                            -- why its job went to the dead-letter queue at once
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX outbox_waiting ON skycap.outbox (id) WHERE relayed_at IS NULL;
CREATE INDEX outbox_relayed ON skycap.outbox (relayed_at) WHERE relayed_at IS NOT NULL;

-- The batch that is on its way, of which there is one at a time. Until it is done, whoever takes a batch gets this one:
-- the same number, rows and queues, so that Redis can tell what it has already.
CREATE TABLE skycap.outbox_batch (
    is_only    BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    number     BIGINT NOT NULL DEFAULT 0,
    row_ids    BIGINT[] NOT NULL DEFAULT '{}',  -- in order; empty when it is done
    queues     TEXT[] NOT NULL DEFAULT '{}',    -- where each goes
    relay      TEXT,
    taken_at   TIMESTAMPTZ,
    scanned_to BIGINT NOT NULL DEFAULT 0,       -- the last row that was taken: until rescan_at, a look begins behind it
    rescan_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

INSERT INTO skycap.outbox_batch DEFAULT VALUES;

-- Whether all in a JSON array are texts of 1 to 200 characters.
CREATE FUNCTION skycap.outbox_texts_v1(list JSONB) RETURNS BOOLEAN
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(bool_and(jsonb_typeof(each) = 'string' AND length(each #>> '{}') BETWEEN 1 AND 200), TRUE)
    FROM jsonb_array_elements(list) AS each
$$;

-- What is wrong with a request, and how to mend it; NULL when nothing is.
CREATE FUNCTION skycap.outbox_fault_v1(kind TEXT, payload JSONB, options JSONB, job_id TEXT) RETURNS TEXT[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    ten_years CONSTANT NUMERIC := 3653 * 86400.0;
    members CONSTANT TEXT[] := ARRAY[
        'version', 'delaySeconds', 'at', 'deadlineSeconds', 'deadline', 'priority', 'tags', 'labels', 'unique'
    ];
    wishes CONSTANT JSONB := options -> 'unique';
    name TEXT;
BEGIN
    IF kind IS NULL OR kind !~ '^[a-z0-9]+(-[a-z0-9]+)*$' OR length(kind) > 100 THEN
        RETURN ARRAY['kind ' || coalesce(quote_literal(left(kind, 100)), 'NULL') || ' is no name of a kind',
            'write lower-case words joined by hyphens, such as ''send-welcome-email'''];
    ELSIF payload IS NULL OR jsonb_typeof(payload) <> 'object' THEN
        RETURN ARRAY['payload is no JSON object', 'give the fields of the kind''s payload: {"userId": "…"}'];
    ELSIF job_id !~ '^[A-Za-z0-9._:-]{1,200}$' THEN
        RETURN ARRAY['job_id is no id', 'use 1 to 200 letters, digits, and . _ : -; or give none, and one is made'];
    ELSIF options = '{}' THEN
        RETURN NULL;
    ELSIF options - members <> '{}' THEN
        SELECT key INTO name FROM jsonb_object_keys(options - members) AS key LIMIT 1;
        RETURN ARRAY[quote_literal(left(name, 100)) || ' is no member of a request',
            'there are kind, payload, id, ' || array_to_string(members, ', ')];
    END IF;
    FOREACH name IN ARRAY ARRAY['priority', 'version'] LOOP
        IF jsonb_typeof(options -> name) <> 'number' OR (options ->> name) !~ '^[0-9]{1,7}$'
            OR (options ->> name)::INTEGER NOT BETWEEN 1 AND (CASE name WHEN 'priority' THEN 1000 ELSE 1000000 END)
        THEN
            RETURN ARRAY[name || ' is out of range', CASE name
                WHEN 'priority' THEN 'give a whole number from 1 (first) to 1000'
                ELSE 'give the version of the payload, a whole number from 1' END];
        END IF;
    END LOOP;
    FOREACH name IN ARRAY ARRAY['delaySeconds', 'deadlineSeconds'] LOOP
        IF jsonb_typeof(options -> name) <> 'number' OR NOT (options -> name)::NUMERIC BETWEEN 0 AND ten_years THEN
            RETURN ARRAY[replace(name, 'Seconds', '') || ' is out of range', 'give 0 seconds to ten years'];
        END IF;
    END LOOP;
    FOREACH name IN ARRAY ARRAY['at', 'deadline'] LOOP
        IF jsonb_typeof(options -> name) <> 'string' OR (options ->> name) !~ '(Z|[+-][0-9]{2}:?[0-9]{2})$' THEN
            RETURN ARRAY[name || ' is no time with a time zone', 'write it as 2026-11-24T08:00:00+03:00'];
        ELSIF (options ->> name)::TIMESTAMPTZ > clock_timestamp() + INTERVAL '3653 days' THEN
            RETURN ARRAY[name || ' is more than ten years ahead', 'is the unit right?'];
        END IF;
    END LOOP;
    RETURN CASE
        WHEN options ?& ARRAY['delaySeconds', 'at'] THEN ARRAY['a delay and a time (at) are given', 'give one of them']
        WHEN options ?& ARRAY['deadlineSeconds', 'deadline'] THEN ARRAY['two deadlines are given', 'give one of them']
        WHEN jsonb_typeof(options -> 'tags') <> 'array' OR jsonb_array_length(options -> 'tags') > 20
            OR NOT skycap.outbox_texts_v1(options -> 'tags')
            THEN ARRAY['tags do not fit', 'give a list of at most 20 texts of 1 to 200 characters']
        WHEN jsonb_typeof(options -> 'labels') <> 'object'
            OR (SELECT count(*) > 20 FROM jsonb_object_keys(options -> 'labels'))
            OR EXISTS (
                SELECT FROM jsonb_each(options -> 'labels') AS label
                WHERE jsonb_typeof(label.value) <> 'string' OR length(label.value #>> '{}') > 1000
                    OR length(label.key) NOT BETWEEN 1 AND 200
            )
            THEN ARRAY['labels do not fit', 'give an object of at most 20 texts of up to 1000 characters']
        WHEN jsonb_typeof(wishes) <> 'object' OR wishes - ARRAY['key', 'by', 'withinSeconds', 'onConflict'] <> '{}'
            THEN ARRAY['unique does not fit', 'give an object with key or by, withinSeconds and onConflict']
        WHEN jsonb_typeof(wishes -> 'key') <> 'string' OR length(wishes ->> 'key') NOT BETWEEN 1 AND 200
            THEN ARRAY['the unique key does not fit', 'give a text of 1 to 200 characters']
        WHEN jsonb_typeof(wishes -> 'by') <> 'array' OR jsonb_array_length(wishes -> 'by') > 20
            OR NOT skycap.outbox_texts_v1(wishes -> 'by')
            THEN ARRAY['the fields that the unique key is made of do not fit', 'give a list of at most 20 names']
        WHEN wishes ? 'key' AND jsonb_array_length(wishes -> 'by') > 0
            THEN ARRAY['a unique key and the fields that make it are given', 'give one of them']
        WHEN jsonb_typeof(wishes -> 'withinSeconds') <> 'number'
            OR (wishes -> 'withinSeconds')::NUMERIC <= 0 OR (wishes -> 'withinSeconds')::NUMERIC > ten_years
            THEN ARRAY['the time that a unique key holds is out of range', 'give more than nothing, to ten years']
        WHEN NOT wishes -> 'onConflict' IN ('"keep"', '"replace"', '"debounce"')
            THEN ARRAY['on_conflict is none of its words', 'give keep, replace or debounce']
    END;
END
$$;

-- Store one request. What is wrong is raised as 22023, with the fix as the hint; ``place`` says which request it is.
CREATE FUNCTION skycap.outbox_put_v1(kind TEXT, payload JSONB, options JSONB, job_id TEXT, place TEXT)
RETURNS TABLE (id TEXT, duplicate BOOLEAN)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    moment CONSTANT TIMESTAMPTZ := clock_timestamp();
    size CONSTANT INTEGER := octet_length(payload::TEXT);
    wishes JSONB := options;
    fault CONSTANT TEXT[] := skycap.outbox_fault_v1(kind, payload, options, job_id);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = place || fault[1], HINT = fault[2];
    ELSIF size > 20 * 1024 * 1024 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = place || format('payload has %s bytes, over 20 MiB', size),
            HINT = 'store large data elsewhere, and send its id';
    END IF;
    -- They count from now, not from when a relay comes to it.
    IF wishes ? 'delaySeconds' THEN
        wishes := wishes - 'delaySeconds' || jsonb_build_object(
            'at', moment + (wishes ->> 'delaySeconds')::DOUBLE PRECISION * INTERVAL '1 second');
    END IF;
    IF wishes ? 'deadlineSeconds' THEN
        wishes := wishes - 'deadlineSeconds' || jsonb_build_object(
            'deadline', moment + (wishes ->> 'deadlineSeconds')::DOUBLE PRECISION * INTERVAL '1 second');
    END IF;
    -- UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, then those of a random UUID (v4, whose 0100 becomes 0111).
    id := coalesce(job_id, encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(EPOCH FROM moment) * 1000)::BIGINT) FROM 3) FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::UUID::TEXT);
    INSERT INTO skycap.outbox (job_id, kind, payload, options, bytes, enqueued_at)
    VALUES (id, kind, payload, wishes, size, moment)
    ON CONFLICT ON CONSTRAINT outbox_job_id_key DO NOTHING;
    duplicate := NOT FOUND;
    RETURN NEXT;
END
$$;

-- Wakes the relays when the transaction commits. PostgreSQL lets transactions with a NOTIFY commit one after another:
-- very busy writers do without (SET skycap.notify = off), and the relays find their jobs when they next look.
CREATE FUNCTION skycap.outbox_ring_v1() RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('skycap.notify', TRUE), '') <> 'off' THEN
        PERFORM pg_notify('skycap_outbox', '');
    END IF;
END
$$;

-- Enqueue one job: it exists if and only if the caller's transaction commits. duplicate: a job with this job_id was
-- enqueued before, and nothing is added. (That a unique_key is taken shows only later, in Redis.)
CREATE FUNCTION skycap.enqueue_v1(
    kind TEXT, payload JSONB DEFAULT '{}', delay INTERVAL DEFAULT NULL, at TIMESTAMPTZ DEFAULT NULL,
    deadline TIMESTAMPTZ DEFAULT NULL, priority INTEGER DEFAULT NULL, unique_key TEXT DEFAULT NULL,
    unique_by TEXT[] DEFAULT NULL, unique_within INTERVAL DEFAULT NULL, on_conflict TEXT DEFAULT NULL,
    tags TEXT[] DEFAULT NULL, labels JSONB DEFAULT NULL, version INTEGER DEFAULT NULL, job_id TEXT DEFAULT NULL
) RETURNS TABLE (id TEXT, duplicate BOOLEAN)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    wishes JSONB;
    options JSONB;
BEGIN
    IF num_nonnulls(unique_key, unique_by, unique_within, on_conflict) > 0 THEN
        wishes := jsonb_strip_nulls(jsonb_build_object(
            'key', unique_key, 'by', to_jsonb(unique_by), 'withinSeconds', extract(EPOCH FROM unique_within),
            'onConflict', on_conflict
        ));
    END IF;
    -- An infinite time is no JSON time: it is refused as any text that is none.
    options := jsonb_strip_nulls(jsonb_build_object(
        'delaySeconds', extract(EPOCH FROM delay), 'at', at, 'deadline', deadline, 'priority', priority,
        'tags', to_jsonb(tags), 'version', version, 'unique', wishes
    ));
    IF labels IS NOT NULL THEN
        options := options || jsonb_build_object('labels', labels);
    END IF;
    RETURN QUERY SELECT * FROM skycap.outbox_put_v1(kind, coalesce(payload, '{}'), options, job_id, '');
    PERFORM skycap.outbox_ring_v1();
END
$$;

-- Enqueue many jobs, all or none: a JSON array of requests, such as {"kind": "…", "payload": {…}, "delaySeconds": 5}.
-- One row for each, in their order.
CREATE FUNCTION skycap.enqueue_many_v1(jobs JSONB) RETURNS TABLE (id TEXT, duplicate BOOLEAN)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    request JSONB;
    number BIGINT;
    place TEXT;
BEGIN
    IF jobs IS NULL OR jsonb_typeof(jobs) <> 'array' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'jobs is no JSON array',
            HINT = 'give an array of requests: [{"kind": "…", "payload": {…}}]';
    END IF;
    FOR request, number IN SELECT * FROM jsonb_array_elements(jobs) WITH ORDINALITY LOOP
        place := format('jobs[%s]: ', number - 1);
        IF jsonb_typeof(request) <> 'object' OR jsonb_typeof(request -> 'kind') <> 'string'
            OR jsonb_typeof(request -> 'id') NOT IN ('string', 'null')
        THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = place || 'is no request',
                HINT = 'give an object with the texts kind and, if wanted, id: {"kind": "…", "payload": {…}}';
        END IF;
        RETURN QUERY SELECT * FROM skycap.outbox_put_v1(
            request ->> 'kind', coalesce(request -> 'payload', '{}'),
            jsonb_strip_nulls(request - ARRAY['kind', 'payload', 'id']), request ->> 'id', place
        );
    END LOOP;
    PERFORM skycap.outbox_ring_v1();
END
$$;

-- The number of the next batch for a relay: rows that wait, in order of id; NULL when nothing waits, or another relay is
-- at it. It gives no rows: a relay that has stopped, or is cut off, would not read them, and the lock would stay.
-- A batch that is not done is given out again, to its own relay at once, to another one when it is older than
-- stale_after. queue_of names the queue of each kind, other_queue that of kinds that the relay does not know.
--
-- Rows that were relayed leave dead entries at the front of the index until it is vacuumed. As long as it is cheap, each
-- look begins at the front; then it begins where the last one ended, and only a twentieth of the time is spent on looks
-- from the front, which find what committed after a higher id.
CREATE FUNCTION skycap.outbox_take_v1(
    relay TEXT, most INTEGER, most_bytes BIGINT, queue_of JSONB, other_queue TEXT, full_queues TEXT[],
    stale_after INTERVAL
) RETURNS BIGINT
-- Statistics about a table that fills and empties are always old: nothing but the index in its order will do.
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    last skycap.outbox_batch;
    began CONSTANT TIMESTAMPTZ := clock_timestamp();
    cheap CONSTANT INTERVAL := '10 ms';
    scan_from BIGINT;
    new_ids BIGINT[];
    new_queues TEXT[];
BEGIN
    -- Most looks find nothing: they write nothing.
    SELECT * INTO STRICT last FROM skycap.outbox_batch;
    IF last.row_ids = '{}' THEN
        scan_from := CASE WHEN last.rescan_at <= began THEN 0 ELSE last.scanned_to END;
        PERFORM FROM skycap.outbox AS o WHERE o.relayed_at IS NULL AND o.id > scan_from ORDER BY o.id LIMIT 1;
        IF NOT FOUND THEN
            IF scan_from = 0 AND clock_timestamp() > began + cheap THEN
                PERFORM FROM skycap.outbox_batch FOR UPDATE SKIP LOCKED;
                IF FOUND THEN
                    UPDATE skycap.outbox_batch AS b SET rescan_at = began + 20 * (clock_timestamp() - began);
                END IF;
            END IF;
            RETURN NULL;
        END IF;
    END IF;

    -- Locked until this one statement has committed; a session's lock would not work through PgBouncer.
    SELECT * INTO last FROM skycap.outbox_batch FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR (
        last.row_ids <> '{}' AND last.relay <> outbox_take_v1.relay AND last.taken_at > began - stale_after
    ) THEN
        RETURN NULL;
    END IF;

    IF last.row_ids <> '{}' THEN
        UPDATE skycap.outbox_batch AS b SET relay = outbox_take_v1.relay, taken_at = began;
    ELSE
        scan_from := CASE WHEN last.rescan_at <= began THEN 0 ELSE last.scanned_to END;
        SELECT array_agg(fitting.id ORDER BY fitting.id), array_agg(fitting.queue ORDER BY fitting.id)
        INTO new_ids, new_queues
        FROM (
            SELECT waiting.id, waiting.queue, sum(waiting.bytes) OVER (ORDER BY waiting.id) - waiting.bytes AS before
            FROM (
                SELECT o.id, o.bytes, coalesce(queue_of ->> o.kind, other_queue) AS queue
                FROM skycap.outbox AS o
                WHERE o.relayed_at IS NULL AND o.id > scan_from
                    AND coalesce(queue_of ->> o.kind, other_queue) <> ALL (full_queues)
                ORDER BY o.id LIMIT most
            ) AS waiting
        ) AS fitting
        WHERE fitting.before < most_bytes;

        -- Higher than any number that a database which was restored from a backup may have given to Redis.
        last.number := greatest(last.number + 1, (extract(EPOCH FROM began) * 1000)::BIGINT);
        UPDATE skycap.outbox_batch AS b SET
            number = last.number, row_ids = coalesce(new_ids, '{}'), queues = coalesce(new_queues, '{}'),
            relay = outbox_take_v1.relay, taken_at = began,
            scanned_to = coalesce(new_ids[cardinality(new_ids)], last.scanned_to),
            rescan_at = CASE WHEN scan_from > 0 OR clock_timestamp() <= began + cheap THEN last.rescan_at
                ELSE began + 20 * (clock_timestamp() - began) END
        RETURNING * INTO last;
    END IF;

    -- What Redis gets must never be undone by a crash of this server.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', TRUE);
    END IF;
    RETURN CASE WHEN last.row_ids <> '{}' THEN last.number END;
END
$$;

-- The rows of the batch that is on its way, in order; none when it is not this one any more.
CREATE FUNCTION skycap.outbox_rows_v1(batch BIGINT) RETURNS TABLE (
    id BIGINT, queue TEXT, job_id TEXT, kind TEXT, payload TEXT, options TEXT, enqueued_at TIMESTAMPTZ
)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
    SELECT o.id, planned.queue, o.job_id, o.kind, o.payload::TEXT, o.options::TEXT, o.enqueued_at
    FROM skycap.outbox_batch AS b
    CROSS JOIN unnest(b.row_ids, b.queues) WITH ORDINALITY AS planned (row_id, queue, place)
    JOIN skycap.outbox AS o ON o.id = planned.row_id
    WHERE b.number = outbox_rows_v1.batch
    ORDER BY planned.place;
END
$$;

-- The batch is done: of its rows, those in relayed are in Redis, the others wait for a later batch. Says whether it was
-- still the one on its way; a relay that comes late changes nothing.
CREATE FUNCTION skycap.outbox_done_v1(batch BIGINT, relayed BIGINT[], refused BIGINT[], problems TEXT[]) RETURNS BOOLEAN
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE skycap.outbox_batch AS b SET row_ids = '{}', queues = '{}' WHERE b.number = batch AND b.row_ids <> '{}';
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    UPDATE skycap.outbox AS o SET relayed_at = clock_timestamp() WHERE o.id = ANY (relayed);
    IF refused <> '{}' THEN
        UPDATE skycap.outbox AS o SET problem = why.problem
        FROM unnest(refused, problems) AS why (row_id, problem) WHERE o.id = why.row_id;
    END IF;
    RETURN TRUE;
END
$$;

-- A backend's role needs USAGE on the schema and EXECUTE on the two functions, which work with their owner's rights:
-- `skycap db grant` gives it these. Every function is everybody's until it is revoked.
REVOKE ALL ON FUNCTION
    skycap.outbox_texts_v1, skycap.outbox_fault_v1, skycap.outbox_put_v1, skycap.outbox_ring_v1,
    skycap.enqueue_v1, skycap.enqueue_many_v1, skycap.outbox_take_v1, skycap.outbox_rows_v1, skycap.outbox_done_v1
FROM PUBLIC;
