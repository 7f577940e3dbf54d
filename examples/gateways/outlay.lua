-- Asks Outlay whether a request may be made: `http-request lua.outlay` in haproxy.cfg. Needs HAProxy 2.6 or newer with Lua.
-- It reads txn.outlay_namespace (and, where set, txn.outlay_team and txn.outlay_user), and sets txn.outlay_status: 200, 403, 429 or 503,
-- and 0 where Outlay did not answer. The reason, the budget and the seconds until it opens are in txn.outlay_reason, _budget and _retry_after.
local url = os.getenv("OUTLAY_URL") .. "/v1/check"
local key = "Bearer " .. os.getenv("OUTLAY_ADMIN_KEY")
local dimensions = { "namespace", "team", "user" }

core.register_action("outlay", { "http-req" }, function(txn)
    local headers = { ["authorization"] = { key } }
    for _, dimension in ipairs(dimensions) do
        local value = txn:get_var("txn.outlay_" .. dimension)
        if value and value ~= "" then
            headers["x-outlay-" .. dimension] = { value }
        end
    end
    local answer = core.httpclient():get{ url = url, headers = headers, timeout = 1000 }
    local function told(header)
        local values = answer and answer.headers and answer.headers[header]
        return values and values[0] or ""
    end
    -- By Outlay's own header: where it does not answer, HAProxy answers in its place.
    txn:set_var("txn.outlay_status", tonumber(told("x-outlay-status")) or 0)
    txn:set_var("txn.outlay_reason", told("x-outlay-reason"))
    txn:set_var("txn.outlay_budget", told("x-outlay-budget"))
    txn:set_var("txn.outlay_retry_after", told("retry-after"))
end)
