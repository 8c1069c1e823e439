"""A small run's options for every algorithm but FedAPM, by name of the experiment."""

from typing import Any

import yaml

SHARING_ALL: dict[str, dict[str, Any]] = yaml.safe_load("""
fedavg-momentum:
  {name: fedavg, lr: 0.1, batch_size: 8, work: {epochs: 1},
   server_optimizer: {name: sgd, lr: 0.7, momentum: 0.5}}
fedavg-adam:
  {name: fedavg, lr: 0.1, batch_size: 8, work: {epochs: 1},
   server_optimizer: {name: adam, lr: 0.05}}
fedavg-ft:
  {name: fedavg-ft, lr: 0.2, batch_size: 8, work: {epochs: 2}, lr_fine_tune: 0.3,
   fine_tune_work: {steps: 5}, weight_decay: 0.01}
fedprox: {name: fedprox, mu: 0.3, lr: 0.1, batch_size: 8, work: {epochs: 2}}
ditto:
  {name: ditto, lam: 0.5, lr_global: 0.1, lr_personal: 0.1, batch_size: 8,
   global_work: {epochs: 1}, personal_work: {epochs: 1}}
pfedme:
  {name: pfedme, lam: 2.0, lr_personal: 0.1, inner_steps: 3, eta: 0.4, beta: 1.2,
   batch_size: 8, work: {epochs: 1}}
flame:
  {name: flame, units: weighted, lam: 0.5, rho: 0.1, lr_personal: 0.1, batch_size: 8,
   personal_work: {epochs: 1}}
scaffold: {name: scaffold, lr: 0.1, batch_size: 8, work: {epochs: 2}}
scaffold-gradient:
  {name: scaffold, lr: 0.1, batch_size: 8, work: {epochs: 1}, lr_server: 0.5,
   control_variate: gradient}
feddyn: {name: feddyn, penalty: 0.5, lr: 0.1, batch_size: 8, work: {epochs: 1}}
fedadmm:
  {name: fedadmm, units: weighted, rho: 0.1, lr: 1.0, batch_size: 8,
   work: {epochs: 1}, init: local, relaxation: 1.5}
fedadmm-participants:
  {name: fedadmm, units: weighted, rho: 0.1, lr: 1.0, batch_size: 8,
   work: {epochs: 2}, server_average: participants, lr_server: 0.6}
iiadmm:
  {name: iiadmm, units: weighted, rho: 0.1, zeta: 0.5, batch_size: 8,
   work: {epochs: 1}}
iceadmm:
  {name: iceadmm, units: weighted, rho: 0.1, curvature: 4.0, batch_size: 8,
   work: {epochs: 1}}
""")

SHARING_PART: dict[str, dict[str, Any]] = yaml.safe_load("""
fedalt-all:
  {name: fedalt, lr_personal: 0.1, lr_shared: 0.1, batch_size: 8, server_average: all,
   personal_work: {epochs: 1}, shared_work: {epochs: 1}}
fedper:
  {name: fedper, lr: 0.1, batch_size: 8, work: {epochs: 2}, weight_decay: 0.01}
fedrep:
  {name: fedrep, lr_head: 0.1, lr_body: 0.1, batch_size: 8, head_work: {epochs: 2},
   body_work: {epochs: 1}, weight_decay: 0.01}
fedbabu:
  {name: fedbabu, lr: 0.2, batch_size: 8, work: {epochs: 2}, lr_fine_tune: 0.3,
   fine_tune_work: {steps: 5}, fine_tune: head, weight_decay: 0.01}
""")
