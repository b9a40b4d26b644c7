import pytest

from orchestrator.ledger.ledger import Ledger
from tests.support.made_sweep import make_sweep
from tests.support.report_page import MIXED, Page, page_of


@pytest.fixture(scope="package")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A sweep with trials of every status, and an unfinished trial."""
    return make_sweep(tmp_path_factory.mktemp("mixed"), MIXED, running=1)


@pytest.fixture(scope="package")
def page(mixed: Ledger) -> Page:
    return page_of(mixed)
