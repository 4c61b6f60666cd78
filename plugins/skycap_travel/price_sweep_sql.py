"""The queries of the price sweep: each about a page of alerts, never about one.

A page is read along the index (entityType, entityId), so that the alerts of an entity lie side by side and its newest
price is looked up once a page. Nothing is locked until the few alerts that are due are claimed.
"""

from __future__ import annotations

# ``a`` is the alert, ``found`` the newest price. Products instead of a quotient: numeric multiplies exactly, and
# nothing is divided by a price of 0. A comparison with NULL makes no alert due. BETWEEN also keeps out NaN and what is
# below 0, which a column may hold and no mail can say.
_IS_DUE = """
    a.status = 'ACTIVE'
    AND (a."expiresAt" IS NULL OR a."expiresAt" > $1)
    AND (a."lastNotifiedAt" IS NULL OR a."lastNotifiedAt" <= $2)
    AND found.price BETWEEN 0 AND 1e35
    AND a."currentPrice" BETWEEN 0 AND 1e35
    AND (
        found.price <= a."targetPrice"
        OR (
            found.price < a."currentPrice"
            AND (a."currentPrice" - found.price) * 100 >= a."priceDropPercentage" * a."currentPrice"
        )
    )
"""

ACTIVE_ALERTS = "SELECT count(*) FROM price_alerts WHERE status = 'ACTIVE'"

# Without ORDER BY id in the first subquery: to break a tie there, PostgreSQL would sort, and so fetch, 32 rows of each
# entity. Here only rows of the very same millisecond are sorted. >= and not =, although nothing is later: for an exact
# time the planner would take the index on createdAt alone, and read all that a nightly import has written at once.
CANDIDATES = f"""
    WITH page AS MATERIALIZED (
        SELECT id, "entityType", "entityId", currency, status, "targetPrice", "currentPrice", "priceDropPercentage",
               "expiresAt", "lastNotifiedAt"
          FROM price_alerts
         WHERE status = 'ACTIVE' AND "entityType" = $3 AND ("entityId", id) > ($4, $5)
         ORDER BY "entityId", id
         LIMIT $6
    ), wanted AS (
        SELECT DISTINCT "entityType", "entityId", currency
          FROM page
         WHERE ("expiresAt" IS NULL OR "expiresAt" > $1) AND ("lastNotifiedAt" IS NULL OR "lastNotifiedAt" <= $2)
    ), found AS MATERIALIZED (
        SELECT wanted.*, newest.price
          FROM wanted
         CROSS JOIN LATERAL (
            SELECT h."createdAt"
              FROM price_history h
             WHERE h."entityType" = wanted."entityType" AND h."entityId" = wanted."entityId"
               AND h.currency = wanted.currency
             ORDER BY h."createdAt" DESC
             LIMIT 1
         ) AS latest
         CROSS JOIN LATERAL (
            SELECT h.price
              FROM price_history h
             WHERE h."entityType" = wanted."entityType" AND h."entityId" = wanted."entityId"
               AND h.currency = wanted.currency AND h."createdAt" >= latest."createdAt"
             ORDER BY h."createdAt" DESC, h.id COLLATE "C" DESC
             LIMIT 1
         ) AS newest
    ), due AS (
        SELECT a.id, a."entityId", a.currency, found.price
          FROM page a
          JOIN found USING ("entityType", "entityId", currency)
         WHERE {_IS_DUE}
    )
    SELECT (SELECT count(*) FROM page) AS seen, last."entityId" AS last_entity, last.id AS last_alert,
           due.ids, due.entities, due.currencies, due.prices
      FROM (SELECT "entityId", id FROM page ORDER BY "entityId" DESC, id DESC LIMIT 1) AS last
     CROSS JOIN (
        SELECT array_agg(id) AS ids, array_agg("entityId") AS entities, array_agg(currency) AS currencies,
               array_agg(price) AS prices
          FROM due
     ) AS due
"""  # noqa: S608 - a constant
"""The next page of an entity type's active alerts: how many, the last one's key, and those that are due.

No row after the last page. $1 is now, $2 the latest time at which an alert may have been notified.
"""

# Whoever has changed an alert since the page was read has the last word: a row that is locked is left to the next
# sweep, and the condition is held against the row as it is once it is ours. The guest is locked, too, against being
# deleted.
CLAIM = f"""
    WITH due AS (
        SELECT a.id, a."currentPrice" AS old_price, found.price AS new_price, u."preferredLanguage" AS language
          FROM unnest($4::text[], $5::text[], $6::text[], $7::numeric[]) AS found (id, entity, currency, price)
          JOIN price_alerts a ON a.id = found.id
          JOIN users u ON u.id = a."userId" AND u."isActive"
         WHERE a."entityType" = $3 AND a."entityId" = found.entity AND a.currency = found.currency
           AND {_IS_DUE}
           FOR UPDATE OF a SKIP LOCKED
           FOR KEY SHARE OF u SKIP LOCKED
    )
    UPDATE price_alerts a
       SET "currentPrice" = due.new_price, "lastNotifiedAt" = $1, "notificationCount" = a."notificationCount" + 1,
           status = CASE WHEN due.new_price <= a."targetPrice" THEN 'TRIGGERED' ELSE a.status END, "updatedAt" = $1
      FROM due
     WHERE a.id = due.id
    RETURNING a.id AS alert_id, a."userId" AS user_id, a."entityType" AS entity_type, a."entityId" AS entity_id,
              a."entityName" AS entity_name, a.currency, a."notificationMethod" AS notification_methods,
              due.old_price, due.new_price, due.language
"""  # noqa: S608 - a constant

NOTIFY = """
    INSERT INTO notifications (id, "userId", type, title, message, data, "createdAt")
    SELECT told.id, told.user_id, 'PRICE_DROP', told.title, told.message, told.data::jsonb, $1
      FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS told (id, user_id, title, message, data)
"""

ENQUEUE = "SELECT count(*) FROM skycap.enqueue_many_v1($1::text::jsonb) AS job WHERE NOT job.duplicate"

# It begins at the last batch's time: the index is read once, also past those that expired long ago.
EXPIRE = """
    WITH expired AS (
        UPDATE price_alerts
           SET status = 'EXPIRED', "updatedAt" = $1
         WHERE id IN (
            SELECT id
              FROM price_alerts
             WHERE status = 'ACTIVE' AND "expiresAt" <= $1 AND "expiresAt" >= $2
             ORDER BY "expiresAt"
             LIMIT $3
               FOR UPDATE SKIP LOCKED
         )
        RETURNING "expiresAt"
    )
    SELECT count(*) AS expired, max("expiresAt") AS last FROM expired
"""
