"""Asks Outlay before LiteLLM's proxy calls a model. Put this file beside the proxy's configuration, and into that

    litellm_settings:
      callbacks: [outlay_litellm.check]

OUTLAY_URL and OUTLAY_ADMIN_KEY say where Outlay is. The namespace is the organisation of the virtual key, else OUTLAY_NAMESPACE.
"""

import os

import httpx
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger


class Check(CustomLogger):
    def __init__(self):
        super().__init__()
        key = os.environ["OUTLAY_ADMIN_KEY"]
        self.outlay = httpx.AsyncClient(base_url=os.environ["OUTLAY_URL"], headers={"Authorization": f"Bearer {key}"}, timeout=1)

    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        named = {
            "namespace": user_api_key_dict.org_id or os.environ.get("OUTLAY_NAMESPACE"),
            "team": user_api_key_dict.team_alias or user_api_key_dict.team_id,
            "user": user_api_key_dict.end_user_id or data.get("user") or user_api_key_dict.user_id,
            "api_key": user_api_key_dict.key_alias,
            "model": data.get("model"),
        }
        try:
            answer = await self.outlay.post("/v1/check", json={name: value for name, value in named.items() if value})
        except httpx.HTTPError as error:
            # While Outlay does not answer, nobody may spend; `return data` lets all spend.
            raise HTTPException(503, "budgets cannot be checked now", {"Retry-After": "1"}) from error
        if answer.status_code == 200:
            return data
        said = answer.json()
        wait = {"Retry-After": answer.headers["retry-after"]} if "retry-after" in answer.headers else None
        raise HTTPException(answer.status_code, {"error": said["detail"], "code": said.get("reason_code", said.get("code"))}, wait)


check = Check()
