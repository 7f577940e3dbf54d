-- Unit economics: what does one session, request or action cost?
--
-- Grain:      one row for each combination of the grouped dimensions, value of the tag, and currency. What has no price at all has a row
--             with currency and cost null.
-- Units:      tokens, requests, tool calls and sessions are counts; an action is a tool call; cost is in units of the currency, exact; what
--             is for one of something is a quotient, and null where there is none of it. cost_per_session is what usage with a session
--             cost, for each session.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions), tag (the name of a
--             tag, like an experiment's variant or a pull request; the column tag has its values).
-- Adds up:    the costs are those of the report chargeback. Counts are the group's, whatever currency their usage cost, so a group that cost
--             two currencies has them on both rows: that a repricing charges what had no price changes costs and no count. A session
--             counts in each group that it used something in; one of which everything was taken back counts nowhere.
WITH counted AS (
    SELECT
        {{dimensions,}}
        {{tag}} AS tag,
        namespace AS session_namespace,
        session AS session_id,
        currency,
        sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) AS events,
        sum(requests) AS requests,
        sum(tool_calls) AS tool_calls,
        sum(total_tokens) AS total_tokens,
        sum(cost) AS cost,
        sum(CASE WHEN cost IS NOT NULL THEN 0 WHEN kind = 'reversal' THEN -1 ELSE 1 END) AS unpriced_events
    FROM usage
    WHERE time >= {{from}} AND time < {{to}}
    GROUP BY {{dimensions,}} {{tag}}, namespace, session, currency
), sessions AS (
    SELECT {{dimensions,}} tag, count(*) AS sessions
    FROM (
        SELECT {{dimensions,}} tag, session_namespace, session_id
        FROM counted
        WHERE session_id IS NOT NULL
        GROUP BY {{dimensions,}} tag, session_namespace, session_id
        HAVING sum(events) > 0
    )
    GROUP BY {{dimensions,}} tag
), counts AS (
    SELECT
        {{dimensions,}}
        tag,
        sum(events) AS events,
        sum(requests) AS requests,
        sum(tool_calls) AS tool_calls,
        sum(total_tokens) AS total_tokens,
        sum(unpriced_events) AS unpriced_events
    FROM counted
    GROUP BY {{dimensions,}} tag
), costs AS (
    SELECT
        {{dimensions,}}
        tag,
        currency,
        sum(cost) AS cost,
        sum(CASE WHEN session_id IS NOT NULL THEN cost END) AS session_cost
    FROM counted
    WHERE currency IS NOT NULL
    GROUP BY {{dimensions,}} tag, currency
    HAVING sum(events) <> 0 OR sum(cost) <> 0
), units AS (
    SELECT l.*, coalesce(r.sessions, 0) AS sessions
    FROM counts AS l
    LEFT JOIN sessions AS r ON (l.tag IS NOT DISTINCT FROM r.tag) AND {{same_dimensions}}
), priced AS (
    SELECT l.*, r.currency, r.cost, r.session_cost
    FROM units AS l
    LEFT JOIN costs AS r ON (l.tag IS NOT DISTINCT FROM r.tag) AND {{same_dimensions}}
)
SELECT
    {{dimensions,}}
    tag,
    currency,
    events,
    requests,
    tool_calls,
    sessions,
    total_tokens,
    cost,
    unpriced_events,
    cost / nullif(requests, 0) AS cost_per_request,
    session_cost / nullif(sessions, 0) AS cost_per_session,
    cost / nullif(tool_calls, 0) AS cost_per_action,
    round(1.0 * total_tokens / nullif(requests, 0), 2) AS tokens_per_request
FROM priced
WHERE events <> 0 OR cost IS NOT NULL
ORDER BY {{dimensions,}} tag, currency
