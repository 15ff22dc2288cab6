"""The arguments of transformers' Trainer: a Schedule, not the Trainer, decides when it logs, evaluates and saves."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments


def training_arguments(
    folder: Path, learning_rate: float, lr_scheduler_type: str, seed: int, report_to: str
) -> TrainingArguments:
    """Arguments for checkpoints in `folder`, on one device. The number of steps is set with the schedule."""
    cuda = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=1,
        learning_rate=learning_rate,
        lr_scheduler_type=lr_scheduler_type,
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="steps",
        save_steps=10**9,
        report_to=report_to,
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=cuda,
        use_cpu=not cuda,
    )
    args._n_gpu = min(1, args.n_gpu)  # one process, one device: no DataParallel on a machine with more
    return args
