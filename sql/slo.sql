-- SLO: which share of sessions stays under a number of tokens?
--
-- Grain:      one row for each combination of the grouped dimensions that has sessions.
-- Units:      sessions and tokens are counts; percent_under is the share of sessions that used fewer than the tokens asked for, in percent;
--             median_tokens and p95_tokens are those of the session that half, and 95 %, of the sessions do not exceed.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions), tokens.
-- Limits:     a session is one of its namespace. It counts with what it used in the period, in each group that it used something in; one of which
--             everything was taken back counts nowhere. Usage without a session is not here.
WITH sessions AS (
    SELECT {{dimensions,}} namespace AS session_namespace, session AS session_id, sum(total_tokens) AS total_tokens
    FROM usage
    WHERE time >= {{from}} AND time < {{to}} AND session IS NOT NULL
    GROUP BY {{dimensions,}} namespace, session
    HAVING sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) > 0
), ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY {{dimensions,}} true ORDER BY total_tokens) AS place,
        count(*) OVER (PARTITION BY {{dimensions,}} true) AS places
    FROM sessions
)
SELECT
    {{dimensions,}}
    places AS sessions,
    sum(CASE WHEN total_tokens < {{tokens}} THEN 1 ELSE 0 END) AS sessions_under,
    round(100.0 * sum(CASE WHEN total_tokens < {{tokens}} THEN 1 ELSE 0 END) / places, 2) AS percent_under,
    sum(total_tokens) AS total_tokens,
    min(CASE WHEN place * 100 >= places * 50 THEN total_tokens END) AS median_tokens,
    min(CASE WHEN place * 100 >= places * 95 THEN total_tokens END) AS p95_tokens,
    max(total_tokens) AS max_tokens
FROM ranked
GROUP BY {{dimensions,}} places
ORDER BY {{dimensions,}} places
