-- Rejected: which events were refused, and why?
--
-- Grain:      one row for each reason code and field.
-- Units:      events are counts; times are when the log took the events, UTC. example is one of the messages.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights).
SELECT
    code,
    field,
    count(*) AS events,
    min(log_time) AS first_time,
    max(log_time) AS last_time,
    min(message) AS example
FROM rejected
WHERE log_time >= {{from}} AND log_time < {{to}}
GROUP BY code, field
ORDER BY events DESC, code, field
