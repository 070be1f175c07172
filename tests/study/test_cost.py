from tests.study.tiny import planned
from trm_lab.cli.live import _doing
from trm_lab.study.cost import CPU_FLOPS, CPU_OVERHEAD, cost, evaluated


def test_a_run_costs_its_training_and_its_evaluations(tmp_path):
    plan = planned(tmp_path)
    (cell, _) = plan.matrix.cells
    account = plan.accounts()[cell.name]
    # 2 evaluations of 8 validation puzzles after 2 steps, and 12 test puzzles after 2 steps.
    assert evaluated(cell.recipe) == 2 * 8 * 2 + 12 * 2
    found = cost(cell.recipe, account)
    assert found.training == 4 * account.flops_per_update
    assert found.evaluation == 56 * account.eval_flops
    assert found.seconds == (found.training + found.evaluation) / CPU_FLOPS + CPU_OVERHEAD
    assert found.evaluation_seconds == found.evaluation / CPU_FLOPS


def test_the_best_weights_are_tested_too(tmp_path):
    plan = planned(tmp_path, ("final_steps: [1, 2]", "final_steps: [1, 2], best: true"))
    assert evaluated(plan.matrix.cells[0].recipe) == 2 * 8 * 2 + 2 * 12 * 2


def test_a_run_that_is_trained_is_said_to_be_evaluated():
    assert (_doing(0.5), _doing(1.0)) == ("50%", "trained, evaluating")
