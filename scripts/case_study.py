"""Answer the case study's questions in a document: tables, verdicts and pictures from the records of scripts/study.py.

  python scripts/case_study.py --data tgs                                  docs/case_study.md and docs/case_study/*.png
  python scripts/case_study.py --data tgs --budget gpu                     from the records of another budget
  python scripts/case_study.py --data synthetic --budget tiny --to FOLDER  written to another folder

Trains nothing. No number in the document is typed by hand: its text is docs/case_study.md.jinja, its numbers are from
output/published/study/. What has no record yet is left out and named. Histograms of the data are drawn if input/ holds
the dataset of the records; pictures of single tiles are simulated, predicted ones from the study of a simulated dataset
with the same budget:  python scripts/study.py --data synthetic-1000 --only base,images_eighth
"""

from pathlib import Path

from saltseg import cli

TEMPLATE = Path(__file__).parents[1] / "docs" / "case_study.md.jinja"


def main() -> None:
    from saltseg import studies

    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DATASET", help="the dataset that was trained on")
    parser.add_argument("--budget", choices=list(studies.BUDGETS), default="cpu", help="the budget of the trainings")
    parser.add_argument("--to", type=Path, default=Path("docs"), metavar="DIR", help="where to write (default: docs)")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import storage
    from saltseg.data import competition
    from saltseg.reporting import case_data, case_figures, case_records, case_study, case_tiles

    data = competition.check_name(arguments.data)
    published = arguments.output / "published" / "study"
    study = case_records.read(published / f"{data}-{arguments.budget}", data, arguments.budget)
    predicted = case_tiles.read(published, data, arguments.budget)
    dataset = case_data.read_dataset(arguments.input / data, study)
    pictures = case_figures.draw(study, dataset, predicted)
    text = case_study.render(study, dataset, predicted, pictures, TEMPLATE)
    for name, png in pictures.items():
        storage.write_atomic(arguments.to / "case_study" / f"{name}.png", png)
    page = arguments.to / "case_study.md"
    storage.write_atomic(page, text)
    lacking = study.lacking(list(studies.VARIANTS))
    print(f"{len(study.records)} of {len(study.records) + len(lacking)} variants, {len(pictures)} pictures: {page}")
    if lacking:
        cli.next_step(f"python scripts/study.py --data {data} --budget {arguments.budget}")
    else:
        cli.next_step(f"git add {page} {arguments.to / 'case_study'}")


if __name__ == "__main__":
    cli.run(main)
