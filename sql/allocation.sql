-- Allocation: which part of each shared cost does who bear, and why?
--
-- Grain:      one row for each rule of the file of `--allocation`, month or day that it shares, currency and receiver. The query sums up usage by
--             what the rules ask for, and the server shares it: see docs/allocation.md. The receiver is in the dimensions of the rules' `by`; all
--             of them null is nobody.
-- Units:      shared_cost is what was shared at once, allocated_cost the receiver's part of it, both in units of the currency, exact. weight
--             and weight_of_all are what the part was in proportion to: tokens, direct cost, or the file's parts; null where a tag decided.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the days and months).
-- Adds up:    for each rule, begin and currency the parts are the shared cost, to the last digit. By receiver they are the column
--             allocated_cost of the report chargeback.
SELECT
    {{dimensions,}}
    {{shared_keys,}}
    currency,
    sum(total_tokens) AS total_tokens,
    sum(cost) AS cost
FROM usage
WHERE time >= {{from}} AND time < {{to}}
GROUP BY {{dimensions,}} {{shared_names,}} currency
