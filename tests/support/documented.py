"""Where each command of the documents is run: a test, or why no test can run it.

A command is run where its program and subcommand are, with the options that matter; paths are the
test's own. The first pattern that matches counts.
"""

from __future__ import annotations

import re

__all__ = ["REASONS", "RUN", "where"]

# Why a command is not run by a test.
REASONS = {
    "network": "downloads models or packages",
    "GPU": "needs an accelerator",
    "hours": "takes longer than a test may",
    "machine": "changes the machine: services, users, files of the system",
    "gate": "is what CI or a developer runs, the tests themselves included",
}

_P = "tests/e2e/test_production_page.py"
_BUILD = r"videopure build --recogniser \S+ --pipeline \S+"

RUN: tuple[tuple[str, str], ...] = (
    # GPUs and clusters of them
    (r"--device cuda|benchmarks\.on_gpu|^torchrun .* (evaluate|harden)", "GPU"),
    # deploy/
    (r"^docker", "tests/unit/deploy/test_docker.py"),
    (r"^kubectl", "tests/unit/deploy/test_kubernetes.py"),
    (r"^(cp|install|useradd|systemctl) |^/opt/|^python3 -m venv /opt/", "machine"),
    (r"^videopure key ", "tests/e2e/test_proxy.py"),
    (r"deploy/ray_serve\.py", "tests/e2e/test_ray_serve.py"),
    # make
    (r"^make (test|test-fast|test-exports|lint types|bench)\b|^pytest ", "gate"),
    (r"^make (harden-demo|evaluate-demo)", "hours"),
    (r"^make demo", ".ci/run"),
    (r"^make serve", "tests/e2e/test_stranger.py"),
    # benchmarks
    (r"benchmarks schedule shortcuts --quick", "gate"),
    (r"-m benchmarks\.(families|real_size)|build/(real-size|wan)/", "hours"),
    (r"-m benchmarks\.screening", "hours"),
    # Screening
    (r"videopure screen .*(s3://|--address)", "tests/integration/bulk/test_cluster.py"),
    (r"videopure screen", "tests/integration/bulk/test_screen.py"),
    (r"videopure\.training\.unknown", "tests/integration/training/test_unknown.py"),
    # Models of the hub
    (r"--pipeline (ali-vilab|THUDM|Wan-AI|stable-diffusion-v1-5)/", "network"),
    (r"--decoder madebyollin/", "network"),
    # Ways to build
    (r"--flow raft_large", "tests/integration/archive/test_archive_flow.py"),
    (r"--motion-(adapter|lora)", "tests/integration/archive/test_motion.py"),
    (r"slowfast\.pt2|torchvision:", "tests/integration/archive/test_recogniser_sources.py"),
    (r"videopure build \.\.\. --folder", "tests/integration/archive/test_archive_forms.py"),
    (r"videopure build --demo", "tests/integration/cli/test_build_commands.py"),
    (r"build/noise", "hours"),
    (rf"{_BUILD}$", "tests/e2e/test_stranger.py"),
    (rf"{_BUILD} --out my\.mar", "tests/integration/training/test_train.py"),
    # The server
    (r"^TS_CONFIG_FILE=config\.properties torchserve .*videopure\.mar", _P),
    (r"^VIDEOPURE_REQUIRE_SIGNATURE=", "tests/e2e/test_traps.py"),
    (r"^TS_CONFIG_FILE=|^\.venv/bin/torchserve", "tests/e2e/test_serving.py"),
    (r"^curl .*(8081/models|8082/metrics)|^videopure (doctor|status|workers)", _P),
    (r"^curl .*8081/token", "tests/e2e/test_tokens.py"),
    (r"^curl |^KEY=|^OPERATOR=", "tests/e2e/test_predictions.py"),
    (r"videopure web", "tests/e2e/test_page.py"),
    (r"videopure serve", "tests/e2e/test_stranger.py"),
    (r"videopure predict", "tests/e2e/test_stranger.py"),
    # Archives
    (r"videopure (configure)", "tests/integration/cli/test_configure.py"),
    (r"^openssl|videopure sign|--require-signature", "tests/integration/cli/test_configure.py"),
    (r"videopure (inspect|verify)", "tests/integration/cli/test_build_commands.py"),
    # Training and evaluation
    (r"videopure evaluate .*--fail-under", "tests/unit/evaluation/test_gate.py"),
    (r"videopure evaluate", "tests/integration/cli/test_evaluate.py"),
    (r"videopure harden", "tests/integration/training/test_harden.py"),
    (
        r"videopure train|videopure\.training\.recogniser",
        "tests/integration/training/test_train.py",
    ),
    (r"videopure (calibrate|tune)", "tests/integration/training/test_calibrate.py"),
    (r"videopure\.evaluation\.sources", "tests/unit/evaluation/test_sources.py"),
    (r"^mkdir -p evaluation-out", "tests/unit/evaluation/test_shipped.py"),
    (r"^tar -czf docs/", "gate"),
    # Installation
    (r"pip install --editable", "tests/e2e/test_stranger.py"),
    (r"^pip install \.|import VideoPureClient", "tests/integration/test_packaging.py"),
)


def where(command: str) -> str | None:
    """The test that runs a command, or the reason why there is none; None where nobody said."""
    return next((place for pattern, place in RUN if re.search(pattern, command)), None)
