# One word per chore; CI runs the same words.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help try test lint pictures notebooks bench bench-serving bench-batch bench-cluster bench-preprocessing bench-retrieval bench-automatic eval clean
.DEFAULT_GOAL := help

help:
	@echo "make try    install, and cut an object out of a photograph with the built-in model"
	@echo "make test   run the tests"
	@echo "make lint   check style and types"
	@echo "make pictures  draw the pictures of the README"
	@echo "make notebooks  run the notebooks of examples/ and keep what they show"
	@echo "make bench  time encoding and clicks, beside transformers"
	@echo "make bench-retrieval  segments found again: how well, and how fast among 100,000"
	@echo "make bench-automatic  time automatic masks, beside the reference's loop (some minutes)"
	@echo "make bench-serving  load the server from a second process, and time the page (some minutes)"
	@echo "make bench-batch  many pictures, beside a plain loop"
	@echo "make bench-cluster  the same on Ray, and what a million pictures cost (ten minutes)"
	@echo "make bench-preprocessing  what smaller squares and crops cost in IoU"
	@echo "make eval   judge the built-in model on labelled photographs (DATA=$(DATA); ARGS=--sheet FILE draws the worst)"

$(BIN)/pointcut: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time: PyTorch is large) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(BIN)/pointcut
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps label-studio-sdk  # for one file of it: the rest would bring a second OpenCV
	@touch $@

try: $(BIN)/pointcut
	@$(BIN)/pointcut segment examples/photos/astronaut.jpg --point 225,110 --out out
	@echo
	@echo "Look at out/astronaut.overlay.png (what was found) and out/astronaut.cutout.png (the object alone)."
	@echo "Next, try another point or a box on your own photograph:"
	@echo "  $(BIN)/pointcut segment YOUR.jpg --point X,Y"
	@echo "  $(BIN)/pointcut segment examples/photos/rocket.jpg --box 300,60,345,365"
	@echo "  $(BIN)/pointcut --help"

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

pictures: $(VENV)/.dev
	@$(BIN)/pointcut segment examples/photos/astronaut.jpg --point 225,110 --out docs/pictures
	@$(BIN)/pointcut segment examples/photos/rocket.jpg --box 300,60,345,365 --out docs/pictures
	@$(BIN)/pointcut segment examples/photos/cat.jpg --box 30,0,370,299 --out docs/pictures
	@$(BIN)/pointcut auto examples/photos/astronaut.jpg examples/photos/coffee.jpg --format overlay --out docs/pictures/auto
	@for name in astronaut coffee; do mv docs/pictures/auto/$$name.overlay.png docs/pictures/$$name.everything.png; done
	@$(BIN)/pointcut track examples/films/astronaut.mp4 --box 0:76,0,204,150 --format json --fresh --out docs/pictures/track
	@mv docs/pictures/track/astronaut.sheet.jpg docs/pictures/
	@$(BIN)/pointcut run examples/photos --index docs/pictures/track/library --out docs/pictures/track/cuts
	@$(BIN)/pointcut index search examples/photos/coffee.jpg --box 125,40,345,270 --index docs/pictures/track/library --out docs/pictures/found.jpg
	@$(BIN)/pointcut serve --port 7799 & server=$$!; sleep 8; $(BIN)/python docs/pictures/page.py http://127.0.0.1:7799; kill $$server
	@rm -rf docs/pictures/track docs/pictures/auto docs/pictures/*.json docs/pictures/*.mask.png

notebooks: $(VENV)/.dev
	@$(BIN)/python examples/notebooks.py $(ARGS)

bench: $(VENV)/.dev
	@$(BIN)/python benchmarks/speed.py $(ARGS)

bench-serving: $(VENV)/.dev
	@$(BIN)/python benchmarks/serving.py --page $(ARGS)

bench-batch: $(VENV)/.dev
	@$(BIN)/python benchmarks/batch.py $(ARGS)

bench-cluster: $(VENV)/.dev
	@$(BIN)/python benchmarks/cluster.py $(ARGS)

bench-preprocessing: $(VENV)/.dev
	@$(BIN)/python benchmarks/preprocessing.py $(DATA)/eval/coco_by_val $(ARGS)

bench-retrieval: $(VENV)/.dev
	@$(BIN)/python benchmarks/retrieval.py $(DATA)/eval/davis2016_val $(ARGS)

bench-automatic: $(VENV)/.dev
	@$(BIN)/python benchmarks/automatic.py $(ARGS)

eval: $(VENV)/.dev
	@$(BIN)/pointcut eval $(DATA)/eval --automatic $(ARGS)

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache
