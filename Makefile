# One word per chore; CI runs the same words.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help try test check lint gallery docs reference notebooks dist bench bench-serving bench-batch bench-cluster bench-preprocessing bench-retrieval bench-automatic eval clean
.DEFAULT_GOAL := help

help:
	@echo "make try    install, and cut an object out of a photograph with the built-in model"
	@echo "make test   run the tests, but for the slow ones (ten minutes)"
	@echo "make check  run every test, and check style and types, as CI does (twenty minutes)"
	@echo "make lint   check style and types"
	@echo "make docs   build the docs as a site"
	@echo "make reference  write the pages of the reference that follow from the code"
	@echo "make gallery  draw every picture of README and docs"
	@echo "make dist   build and try what is released"
	@echo "make notebooks  run the notebooks of examples/ and keep what they show"
	@echo "make bench  time encoding and clicks, beside transformers"
	@echo "make bench-retrieval  segments found again: how well, and how fast among 100,000"
	@echo "make bench-automatic  time automatic masks, beside the reference's loop (some minutes)"
	@echo "make bench-serving  load the server from a second process, and time the page (some minutes)"
	@echo "make bench-batch  many pictures, beside a plain loop"
	@echo "make bench-cluster  the same on Ray, and what a million pictures cost (ten minutes)"
	@echo "make bench-preprocessing  what smaller squares, crops and zooming in do to IoU"
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
	@$(BIN)/python -m pytest $(BESIDE) -m "not alone and not slow" $(ARGS)
	@$(BIN)/python -m pytest -m "alone and not slow" $(ARGS)

check: $(VENV)/.dev
	@$(BIN)/python -m pytest $(BESIDE) -m "not alone" $(ARGS)
	@$(BIN)/python -m pytest -m alone $(ARGS)
	@$(MAKE) --no-print-directory lint

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

PICTURES := docs/pictures
SCRATCH := $(PICTURES)/scratch

gallery: $(VENV)/.dev
	@$(BIN)/pointcut segment examples/photos/astronaut.jpg --point 225,110 --out $(SCRATCH)
	@$(BIN)/pointcut segment examples/photos/rocket.jpg --box 300,60,345,365 --out $(SCRATCH)
	@$(BIN)/pointcut segment examples/photos/cat.jpg --box 30,0,370,299 --point 340,140 --out $(SCRATCH)
	@for name in astronaut rocket cat; do mv $(SCRATCH)/$$name.overlay.png $(SCRATCH)/$$name.cutout.png $(PICTURES); done
	@$(BIN)/pointcut auto examples/photos/astronaut.jpg examples/photos/coffee.jpg --format overlay --out $(SCRATCH)/auto
	@for name in astronaut coffee; do mv $(SCRATCH)/auto/$$name.overlay.png $(PICTURES)/$$name.everything.png; done
	@$(BIN)/pointcut auto examples/photos/coffee.jpg --zoom --format overlay --out $(SCRATCH)/closer
	@mv $(SCRATCH)/closer/coffee.overlay.png $(PICTURES)/coffee.closer.png
	@$(BIN)/pointcut count examples/photos/coffee.jpg --out $(SCRATCH) && mv $(SCRATCH)/coffee.count.png $(PICTURES)
	@$(BIN)/pointcut track examples/films/astronaut.mp4 --box 0:76,0,204,150 --format json --fresh --out $(SCRATCH)
	@mv $(SCRATCH)/astronaut.sheet.jpg $(PICTURES)
	@$(BIN)/pointcut run examples/photos --index $(SCRATCH)/library --out $(SCRATCH)/cuts
	@$(BIN)/pointcut index search examples/photos/coffee.jpg --box 165,10,415,280 --index $(SCRATCH)/library --out $(PICTURES)/found.jpg
	@$(BIN)/python docs/_tools/gallery.py $(PICTURES)
	@$(BIN)/pointcut serve --port 7799 --index $(SCRATCH)/library & server=$$!; sleep 8; $(BIN)/python docs/_tools/page.py http://127.0.0.1:7799 $(PICTURES); kill $$server
	@rm -rf $(SCRATCH)

docs: $(VENV)/.dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html, or: $(BIN)/python -m http.server -d site"

reference: $(VENV)/.dev
	@$(BIN)/python docs/_tools/reference.py

dist: $(VENV)/.dev
	@$(BIN)/python tools/dist.py $(ARGS)

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
