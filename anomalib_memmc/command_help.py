"""What ``--help`` says of anomalib's commands, as this plugin runs them."""

from collections.abc import Collection, Sequence

_HELP, _ALL = {"-h", "--help"}, {"-v", "-vv", "--verbose"}

HEAD = """\
usage: anomalib-memmc COMMAND [ARGUMENTS]

Commands of anomalib-memmc:
"""
FOOT = """
anomalib-memmc COMMAND --help says more. MEMMC_TRACEBACK=1 shows where an error was raised.
First steps: anomalib-memmc train --config quickstart
"""
ANOMALIB = {
    "train": "Train a model, then test it.",
    "fit": "Train a model.",
    "validate": "Score the validation part with a checkpoint.",
    "test": "Test a checkpoint.",
    "predict": "Score images with a checkpoint, without labels.",
    "export": "Write a checkpoint as a Torch, ONNX or OpenVINO model.",
    "install": "Install optional parts of anomalib.",
}
"""anomalib's commands, each in a sentence; its ``benchmark`` and ``predict`` give way to the plugin's."""

_ARGUMENTS = {
    "--config": "a preset's name or a YAML file; a second one goes on top",
    "--model": "a class, such as MemMCMAE, where no configuration names it; put it before --config",
    "--data": "a data module, such as Phantom, HyperKvasir, CovidX or Folder",
    "--data.init_args.root": "where its images are",
    "--ckpt_path": "the checkpoint to go on from or to work with, such as latest/weights/lightning/model.ckpt",
    "--default_root_dir": "where results go (default: results)",
    "--trainer.max_epochs": "epochs of training",
    "--trainer.accelerator": "auto, cpu, gpu, cuda or mps",
    "--seed_everything": "seed of all random numbers",
    "--export_type": "torch, onnx or openvino",
    "--export_root": "where the exported model goes (default: results)",
    "--input_size": "height and width of the images that it takes, such as '[256,256]' (default: any)",
    "--compression_type": "INT8_PTQ makes an OpenVINO model of 8 bits, compared with its float32 twin on --data",
}
_TRAINING = (
    "--config",
    "--data.init_args.root",
    "--model",
    "--data",
    "--ckpt_path",
    "--default_root_dir",
    "--trainer.max_epochs",
    "--trainer.accelerator",
    "--seed_everything",
)
_TESTING = ("--config", "--ckpt_path", "--data.init_args.root", "--default_root_dir", "--trainer.accelerator")
TAKEN = {
    "train": _TRAINING,
    "fit": _TRAINING,
    "validate": _TESTING,
    "test": _TESTING,
    "export": ("--model", "--ckpt_path", "--export_type", "--export_root", "--input_size", "--compression_type"),
}
"""Command -> the arguments that its help names, of some hundred."""
_CHECKPOINT = "results/MemMCMAE/Phantom/latest/weights/lightning/model.ckpt"
_EXAMPLES = {
    "train": "--config cpu/folder --data.init_args.root DIR --trainer.max_epochs 30",
    "fit": "--config cpu/folder --data.init_args.root DIR --trainer.max_epochs 30",
    "validate": f"--config quickstart --ckpt_path {_CHECKPOINT}",
    "test": f"--config quickstart --ckpt_path {_CHECKPOINT}",
    "export": f"--model MemMCMAE --export_type onnx --ckpt_path {_CHECKPOINT}",
}


def overview(own: str, own_names: Collection[str]) -> str:
    """What all commands are, the plugin's first.

    Args:
        own: The plugin's, a line each.
        own_names: Their names; anomalib's of the same name are left out.
    """
    theirs = "".join(f"  {name:13}{text}\n" for name, text in ANOMALIB.items() if name not in own_names)
    return f"{HEAD}{own}\nCommands of anomalib, which know the plugin's classes by their bare names:\n{theirs}{FOOT}"


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for the help of one of anomalib's commands, and not for all of its arguments."""
    if not arguments or arguments[0] not in TAKEN:
        return False
    return bool(_HELP & set(arguments)) and not _ALL & set(arguments)


def command_help(command: str) -> str:
    """What one of anomalib's commands does, and the arguments that matter most.

    Args:
        command: The command.
    """
    rows = "".join(f"  {name:24}{_ARGUMENTS[name]}\n" for name in TAKEN[command])
    return (
        f"usage: anomalib-memmc {command} [ARGUMENTS]\n\n{ANOMALIB[command]}\n\nArguments that matter most:\n{rows}\n"
        "Every key of a configuration can be given: --model.init_args.KEY, --data.init_args.KEY, --trainer.KEY.\n"
        f"anomalib-memmc {command} -h -vv lists all of anomalib's arguments, --print_config the values in force.\n\n"
        f"Example:\n  anomalib-memmc {command} {_EXAMPLES[command]}\n"
    )
