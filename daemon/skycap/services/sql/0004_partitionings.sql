-- Tables of the backend that are being made into partitioned ones: where each conversion stands, so that it goes on where
-- a killed one ended.

CREATE TABLE skycap.partitionings (
    table_name  TEXT PRIMARY KEY,
    column_name TEXT NOT NULL,
    step        TEXT NOT NULL CHECK (step IN ('copying', 'copied', 'swapped')),
    last_key    TEXT[],                         -- of the last row that was copied; NULL before the first
    copied      BIGINT NOT NULL DEFAULT 0,
    started_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
