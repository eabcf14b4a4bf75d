"""What ``GET /openapi.json`` says, held against a whole txlb by schemathesis: requests right and wrong.

Always the same requests (of one version of schemathesis), a quarter of a minute. To look for longer:
``st run http://127.0.0.1:9900/openapi.json``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo
from support.processes import child_environment

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "allow_header_conformance",
)
#: An If-Match that fits nothing may be found out before what is wrong with the body.
CONFIG = """\
[checks.negative_data_rejection]
expected-statuses = ["400", "403", "404", "405", "409", "412", "413", "415"]
"""


@pytest.mark.timeout(180)
def test_every_answer_is_as_described(
    start_balancer: Callable[..., Balancer], origin: Origin, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    balancer = start_balancer([origin.port], workers=2, timeouts={"drain": "500ms"})
    with origin.serving(answering(echo)):
        run = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={config}",
                "run",
                f"http://127.0.0.1:{balancer.ports['admin']}/openapi.json",
                "--phases=examples,coverage,fuzzing",
                f"--checks={','.join(CHECKS)}",
                "--generation-deterministic",
                "--max-examples=5",
                "--request-timeout=65",
                "--workers=1",
                "--no-color",
            ],
            cwd=tmp_path,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=170,  # ten times what it takes
        )

        assert run.returncode == 0, run.stdout + run.stderr
        assert "Tested: 17" in run.stdout, run.stdout  # every call
        assert balancer.admin("/health")[0] == 200
