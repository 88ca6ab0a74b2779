"""What the logs of a record say about early stops and falling rates."""

from fake_records import entry

from saltseg.reporting.case_curves import Descent, Stop, descents, stops


def test_where_patience_would_have_ended_a_training() -> None:
    losses = {2: 0.5, 4: 0.4, 6: 0.45, 8: 0.41, 10: 0.39, 12: 0.6}
    rows = [{"epoch": float(epoch), "valid_loss": loss} for epoch, loss in losses.items()]
    made = {"folds": [3], "curves": [rows]}
    assert stops(made, patience=4) == [Stop(3, lowest=10, loss=0.39, last=0.6, stopped=8)]
    assert stops(made, patience=6) == [Stop(3, lowest=10, loss=0.39, last=0.6, stopped=12)]


def test_where_a_plateau_lowered_the_rate_and_what_was_kept() -> None:
    def rows(*pairs):
        return [
            {"epoch": float(epoch), "train_loss": 0.1, "valid_loss": loss, "learning_rate": rate}
            for epoch, (loss, rate) in enumerate(pairs, start=1)
        ]

    first = rows((0.5, 1e-3), (0.4, 1e-3), (0.6, 1e-3), (0.3, 1.0000001e-4), (0.35, 1e-4), (0.36, 1e-5))
    found = descents(entry(folds=[2, 4], curves=[first, rows((0.5, 1e-3), (0.4, 1e-3))]))
    assert found == [
        Descent(2, ((4, 1.0000001e-4), (6, 1e-5)), kept=4, last=6),
        Descent(4, (), kept=2, last=2),
    ]
