"""Each message is shown once, other packages' only where they matter, and their warnings at import not at all."""

import subprocess
import sys

PROGRAM = """
import logging, warnings
from anomalib_memmc.foreign_warnings import ignore_warnings_at_work
from anomalib_memmc.logs import configure_logger
configure_logger()
ignore_warnings_at_work()
for name in ("anomalib.callbacks", "anomalib_memmc.data", "lightning.pytorch.core", "lightning_fabric.x", "onnx_ir.p"):
    logging.getLogger(name).info("info of %s", name)
logging.getLogger("onnx_ir.p").warning("warning of onnx")
said = logging.getLogger("lightning.pytorch.utilities.rank_zero")
said.info("try installing [litlogger](x)")
said.info("GPU available")
warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use another", FutureWarning)
warnings.warn("another thing is deprecated", FutureWarning)
"""


def test_messages_and_warnings():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    messages = [line.split(" ", 1)[1] for line in done.stderr.splitlines() if line[:2].isdigit()]
    assert messages == [
        "INFO info of anomalib.callbacks",
        "INFO info of anomalib_memmc.data",
        "INFO info of lightning.pytorch.core",
        "INFO info of lightning_fabric.x",
        "WARNING warning of onnx",
        "INFO GPU available",
    ]
    warnings = [line for line in done.stderr.splitlines() if "FutureWarning" in line]
    assert len(warnings) == 1
    assert "another thing is deprecated" in warnings[0]
