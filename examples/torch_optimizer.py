"""A PyTorch loop with onepass's optimizer and schedule: clip, unscale, check, update in one launch.

PyTorch computes the gradients. `step` reads each parameter's ``.grad`` and updates the parameters
in place, so nothing is copied or converted. Loss scaling needs no GradScaler: `step` divides by
``grad_scale``, and with ``nonfinite="skip"`` an overflow changes nothing and is reported.
"""

import torch
from onepass import optim

torch.manual_seed(0)
X = torch.randn(1024, 2)
y = (X[:, 0] * X[:, 1] > 0).long()  # exclusive or: no straight line separates it

model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
optimizer = optim.AdamW(model.parameters(), lr=0.02)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20 * 16)
scale = 2.0**16  # what torch.amp.GradScaler starts with

for epoch in range(20):
    for rows in torch.randperm(len(X)).split(64):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(X[rows]), y[rows])
        (loss * scale).backward()
        info = optimizer.step(max_norm=1.0, grad_scale=scale, nonfinite="skip", zero_grad=True)
        if info.skipped:
            scale /= 2
        else:
            schedule.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.4f}")

with torch.no_grad():
    print("accuracy", (model(X).argmax(dim=1) == y).float().mean().item())
