"""Types of the public functions, which magic_cli/__init__.py imports when they are first asked for."""

from magic_cli.commands.cases.build import IndexOptions as IndexOptions
from magic_cli.commands.cases.build import index_add as index_add
from magic_cli.commands.cases.build import index_build as index_build
from magic_cli.commands.cross_validate import cross_validate as cross_validate
from magic_cli.commands.export.model import ExportOptions as ExportOptions
from magic_cli.commands.export.model import ExportResult as ExportResult
from magic_cli.commands.export.model import GraphInputs as GraphInputs
from magic_cli.commands.export.model import export as export
from magic_cli.commands.export.model import graph_inputs as graph_inputs
from magic_cli.commands.index import IndexAdded as IndexAdded
from magic_cli.commands.index import IndexRemoved as IndexRemoved
from magic_cli.commands.index import IndexSummary as IndexSummary
from magic_cli.commands.index import index_info as index_info
from magic_cli.commands.index import index_remove as index_remove
from magic_cli.commands.package import CheckResult as CheckResult
from magic_cli.commands.package import PackageOptions as PackageOptions
from magic_cli.commands.package import PackageResult as PackageResult
from magic_cli.commands.package import check_submission as check_submission
from magic_cli.commands.package import package as package
from magic_cli.commands.predict import PredictOptions as PredictOptions
from magic_cli.commands.predict import predict as predict
from magic_cli.commands.prepare import PrepareOptions as PrepareOptions
from magic_cli.commands.prepare import prepare as prepare
from magic_cli.commands.rerun import RerunResult as RerunResult
from magic_cli.commands.rerun import rerun as rerun
from magic_cli.commands.run_setup import TrainOptions as TrainOptions
from magic_cli.commands.score import ScoreOptions as ScoreOptions
from magic_cli.commands.score import score as score
from magic_cli.commands.search import SearchOptions as SearchOptions
from magic_cli.commands.search import SearchOutcome as SearchOutcome
from magic_cli.commands.search import search as search
from magic_cli.commands.train import train as train
from magic_cli.commands.trainings.listing import RunList as RunList
from magic_cli.commands.trainings.listing import runs as runs
from magic_cli.commands.trainings.show import Shown as Shown
from magic_cli.commands.trainings.show import show as show
from magic_cli.commands.vote import VoteOptions as VoteOptions
from magic_cli.commands.vote import vote as vote
from magic_cli.data.preparation.case_texts import TextOptions as TextOptions
from magic_cli.data.prepared import Prepared as Prepared
from magic_cli.data.prepared import open_prepared as open_prepared
from magic_cli.errors import MagicError as MagicError
from magic_cli.report.preparation.text import PrepareResult as PrepareResult
from magic_cli.report.run_text import CrossValidationResult as CrossValidationResult
from magic_cli.report.run_text import PredictResult as PredictResult
from magic_cli.report.run_text import VoteResult as VoteResult
from magic_cli.report.score_report import ScoreReport as ScoreReport
from magic_cli.report.train_text import TrainedDataset as TrainedDataset
from magic_cli.report.train_text import TrainResult as TrainResult
from magic_cli.training.runtime import RuntimeOptions as RuntimeOptions

__version__: str
__all__: list[str]
