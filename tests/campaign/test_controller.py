from pathlib import Path

from conftest import calculated, recorded


def test_a_whole_campaign(make_campaign):
    controller = make_campaign()
    outcome = controller.run()
    assert outcome.status == "finished"
    assert "40 labels" in outcome.reason
    print(controller.state)
    assert 0
