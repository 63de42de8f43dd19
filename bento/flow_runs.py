"""Asking Prefect's API for a flow run. Over plain HTTP: the service holds no Prefect."""

from __future__ import annotations

from typing import Any

import httpx

from menagerie.errors import Overloaded


async def run_deployment(api_url: str, flow: str, deployment: str, parameters: dict[str, Any]) -> str:
    """Create a run of `flow/deployment`; its id.

    Raises:
        Overloaded: Prefect is down, has no such deployment or refuses the run; says which.
    """
    async with httpx.AsyncClient(base_url=api_url, timeout=5, trust_env=False) as client:
        try:
            found = await client.get(f"/deployments/name/{flow}/{deployment}")
            if found.status_code == httpx.codes.NOT_FOUND:
                raise Overloaded(f"Prefect has no deployment {flow}/{deployment}")
            found.raise_for_status()
            made = await client.post(
                f"/deployments/{found.json()['id']}/create_flow_run",
                json={"parameters": parameters, "state": {"type": "SCHEDULED"}},
            )
            made.raise_for_status()
            return str(made.json()["id"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Overloaded(f"Prefect cannot be reached or refused the run: {error}") from error
