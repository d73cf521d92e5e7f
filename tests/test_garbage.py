import gc

import pytest

from rocscope import garbage


@pytest.mark.parametrize("at_work", [True, False])
def test_the_collector_rests_and_is_left_as_it_was(at_work):
    before = gc.isenabled()
    (gc.enable if at_work else gc.disable)()
    try:
        with pytest.raises(KeyError), garbage.resting():
            assert not gc.isenabled()
            with garbage.resting():
                pass
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is at_work
    finally:
        (gc.enable if before else gc.disable)()
