import pytest

from longtail.reproduce.catalogue import PAPERS, Catalogue, budget, budgets
from longtail.reproduce.plan import phases_of_method, plan, run_settings
from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig

KINDS = {"segmentation": SegmentationConfig, "detection": DetectionConfig}


def planned(paper, name, tmp_path, spending="smoke", data="scenes", seeds=(0,), **options):
    catalogue = Catalogue(paper)
    return plan(
        catalogue,
        catalogue.experiment(name),
        data=data,
        budget=budget(spending),
        seeds=seeds,
        out=tmp_path,
        **options,
    )


@pytest.mark.parametrize("spending", list(budgets()))
@pytest.mark.parametrize("paper", PAPERS)
def test_every_run_has_settings_that_the_engine_takes(paper, spending):
    catalogue = Catalogue(paper)
    runs = {
        (part, run)
        for name in catalogue.names
        for part in catalogue.parts(name)
        for run in catalogue.experiment(name, part).runs
    }
    assert len(runs) > 20
    for part, run in sorted(runs):
        data = f"{catalogue.data[part]['dataset']}:somewhere"
        settings = run_settings(catalogue, part, run, data=data, budget=budget(spending))
        config = from_dict(KINDS[catalogue.task], settings)
        assert {*config.iterations, *config.epochs} == set(phases_of_method(settings))
        assert config.logging.val_interval == 0  # compared runs are all scored with their last weights
        for phase in phases_of_method(settings):
            config.optimiser_of(phase)


def test_the_papers_schedule():
    medoe, mec = Catalogue("medoe"), Catalogue("mec")
    city = run_settings(medoe, "cityscapes", "pspnet_r101c/medoe", data="cityscapes:x", budget=budget("paper"))
    assert city["iterations"] == {"experts": 80_000, "ensemble": 1_600}
    assert city["augmentation"]["crop"] == [512, 1024]
    assert city["data"]["groups"]["sizes"] == [4, 4, 11]
    assert city["loading"]["batch_size"] == 8
    assert city["model"]["encoder"] == "resnet101c"
    lvis = run_settings(mec, "lvis", "cascade_r50/mec", data="lvis:x", budget=budget("paper"))
    images = 100_170
    assert lvis["iterations"]["train"] == pytest.approx(20 * images / 16, rel=1e-3)
    # the default falls are those of the paper: after 16 and 18 of 20 epochs
    assert "steps" not in lvis["optimiser"]
    coco = run_settings(mec, "coco_lt", "cascade_r50/mec", data="coco:x", budget=budget("paper"))
    assert coco["epochs"] == {"train": 12} and "iterations" not in coco
    assert coco["optimiser"]["steps"] == [pytest.approx(8 / 12, abs=1e-3), pytest.approx(10 / 12, abs=1e-3)]


def paper_settings(key, part="lvis"):
    return run_settings(Catalogue("mec"), part, key, data=f"{part}:x", budget=budget("paper"))


def test_the_papers_networks_begin_with_its_platforms_weights():
    """MMDetection's are torchvision's first ones (76.13 %), not the recommended ones (80.86 %)."""
    assert paper_settings("cascade_r50/mec")["model"]["backbone"]["weights"] == "IMAGENET1K_V1"
    deformable = paper_settings("htc_rs200_dcn_cosine/mec")["model"]["backbone"]["deformable_stages"]
    assert deformable == [3, 4, 5]


def test_repeated_images_make_the_schedule_longer():
    assert paper_settings("cascade_r50/repeat_factor")["epochs"] == {"train": 20}
    later = paper_settings("cascade_r50/repeat_factor_classifier")
    assert later["epochs"] == {"classifier": 12} and "iterations" not in later


@pytest.mark.parametrize("method", ["balanced_groups", "calibration_head"])
def test_second_phases_have_their_own_recipe(method):
    config = from_dict(DetectionConfig, paper_settings(f"cascade_r50/{method}"))
    first, second = config.optimiser, config.optimiser_of("classifier")
    assert (first.recipe("lr"), second.recipe("lr")) == (0.02, 0.01)
    assert second.warmup_iterations == 500 and second.warmup_start == pytest.approx(1 / 3, abs=1e-3)
    assert method != "balanced_groups" or second.steps == pytest.approx((8 / 12, 11 / 12), abs=1e-3)
    small = run_settings(Catalogue("mec"), "lvis", f"cascade_r50/{method}", data="x", budget=budget("small"))
    brief = from_dict(DetectionConfig, small).optimiser_of("classifier")
    assert (brief.name, brief.lr, brief.steps) == ("adamw", 0.0003, None)


def test_a_length_in_epochs_is_not_known_before_the_data(tmp_path):
    runs = planned("mec", "table-2a", tmp_path, "paper", data="lvis:x")
    lengths = {run.key: run for run in runs}
    assert lengths["cascade_r50/baseline"].length == "125,220 iterations"
    assert lengths["cascade_r50/repeat_factor"].length == "20 epochs"
    assert lengths["cascade_r50/repeat_factor"].iterations is None
    assert lengths["cascade_r50/repeat_factor_classifier"].length == "12 epochs"  # it begins with the baseline
    # what is said last counts
    short = planned("mec", "table-2a", tmp_path, "paper", data="lvis:x", changes={"iterations": {"train": 7}})
    assert {run.iterations for run in short if run.start_from is None} == {7}


def test_data_of_ones_own_do_not_take_the_papers_groups():
    settings = run_settings(
        Catalogue("medoe"), "cityscapes", "pspnet_r50c/baseline", data="my/folder", budget=budget("paper")
    )
    assert "groups" not in settings["data"]
    assert settings["data"]["dataset"] == "my/folder"


def test_a_small_budget_replaces_the_whole_model(tmp_path):
    run = planned("mec", "table-3", tmp_path)[0]
    assert run.settings["model"]["backbone"]["name"] == "torchvision/mobilenet_v2"
    assert "weights" not in run.settings["model"]["backbone"]
    four = planned("mec", "table-3", tmp_path)[-1]
    assert four.settings["model"]["ious"] == [0.5, 0.6, 0.7, 0.8]
    assert four.settings["data"]["groups"]["edges"] == [10, 100, 500]


def test_tables_share_runs(tmp_path):
    first = {run.folder for run in planned("medoe", "table-3", tmp_path)}
    second = {run.folder for run in planned("medoe", "table-5", tmp_path)}
    assert len(first) == 3
    assert len(first & second) == 2


def test_a_run_comes_after_the_one_that_it_begins_with(tmp_path):
    runs = planned("mec", "table-2a", tmp_path, seeds=(0, 1))
    places = {run.folder: place for place, run in enumerate(runs)}
    begun = [run for run in runs if run.start_from]
    assert len(begun) == 8
    assert all(places[run.start_from] < places[run.folder] for run in begun)
    assert all(run.start_from.name.endswith(f"seed{run.seed}") for run in begun)
    assert all(run.iterations == 2 for run in begun)


def test_state_speed_and_changes(tmp_path):
    run = planned("medoe", "table-6", tmp_path, changes={"loading": {"batch_size": 4}}, weights="w.pth")[0]
    assert run.state == "missing"
    assert run.speed is None
    assert run.images == 5 * 4
    assert run.settings["model"]["weights"] == "w.pth"
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.csv").write_text("phase,iteration,loss,iterations_per_second\ntrain,1,2.0,0.5\n")
    assert run.state == "begun"
    assert run.speed == 0.5
    (run.folder / "results.json").write_text("{}")
    assert run.state == "done"
