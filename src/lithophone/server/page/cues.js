// A turn -> cues, as src/lithophone/formats/cues.py; tests/server/test_page_browser.py compares both.
import { count, speakerName } from "./turns.js";

const [WIDTH, LINES, LONGEST] = [42, 2, 7];
const [PAUSE, LONG_PAUSE, SHORT, TICK] = [0.5, 1, 1, 0.001];
const USUAL_CPS = 20;
const SENTENCE_END = ".?!…。？！";
const CLAUSE_END = ",;:—–、，；：";
const CLOSING = "\"'”’»)]}」』）】〉》";
const STAND_INS = "＜＞｛［";
const NEVER_FIRST = `${STAND_INS}、。，．？！：；）」』】〉》ー々ゝヽ・…～ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ${CLOSING}`;
const NEVER_LAST = `${STAND_INS}（「『【〈《`;
const WIDE = /[ᄀ-ᅟ⺀-〾ぁ-䶿一-꓏ꥠ-ꥼ가-힣豈-﫿︐-︙︰-﹫！-｠￠-￦\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;

const columnsOf = (c) => (/[\p{Mn}\p{Cf}]/u.test(c) ? 0 : WIDE.test(c) ? 2 : 1);
const columns = (chars) => chars.reduce((sum, c) => sum + columnsOf(c), 0);

// `[Speaker 1]: ` or `[Ann]: `; brackets in a name become round.
export function labelOf(speaker) {
	const name = speakerName(speaker).replaceAll("[", "(").replaceAll("]", ")");
	return name && `[${name}]: `;
}

// Half to even, as Python.
export function milliseconds(seconds) {
	const near = Math.round(seconds * 1000);
	return near - seconds * 1000 === 0.5 ? 2 * Math.floor(near / 2) : near;
}

// Cues of all turns by start, none overlapping, each of 1 ms or more, as src/lithophone/formats/spans.py.
export function allCues(turns, guard) {
	const cues = turns.flatMap((turn) => cuesOf(turn, guard));
	cues.sort((one, other) => milliseconds(one.start) - milliseconds(other.start));
	const spans = apart(cues.map((cue) => ({ start: milliseconds(cue.start), end: milliseconds(cue.end), need: needOf(cue) })));
	return cues.map((cue, i) => ({ ...cue, start: spans[i].start / 1000, end: spans[i].end / 1000 }));
}

function needOf({ label, lines }) {
	const length = lines.reduce((sum, [from, to]) => sum + to - from, [...label].length + lines.length - 1);
	return Math.ceil((1000 * length) / USUAL_CPS);
}

function apart(spans) {
	const kept = [];
	for (let { start, end, need } of spans) {
		const first = kept.at(-1);
		if (first && start < first.end) {
			const share = Math.floor(((Math.max(first.end, end) - first.start) * first.need) / (first.need + need));
			const wanted = Math.max(start, first.start + Math.min(first.need, share));
			const met = Math.max(Math.min(wanted, first.end), first.start + 1);
			first.end = met;
			if (met > start) end = Math.max(end, met + need);
			start = met;
		}
		kept.push({ start, end: Math.max(end, start + 1), need });
	}
	return kept;
}

// [{start, end, chars, lines: [[from, to]], label, words: [{start, end, from, to}]}]; guard replaces characters one by one.
function cuesOf(turn, guard) {
	const [chars, label] = [[...guard(turn.text)], guard(labelOf(turn.speaker))];
	const words = placed(turn);
	const units = timed(unitsOf(chars), turn, words, chars.length);
	const layout = new Layout(chars, columns([...label]));
	const cut = cuts(units, layout, chars, words.length > 0);
	return times(units, cut, turn).map(([start, end], i) => {
		const some = units.slice(...cut[i]);
		const inside = words.filter((word) => some[0].from <= word.from && word.to <= some.at(-1).to);
		return { start, end, chars, lines: layout.lines(some), label, words: inside };
	});
}

// Words with places in characters, where `at` counts code units.
function placed({ words, text }) {
	let [units, chars] = [0, 0];
	return words.map((word) => {
		const from = chars + [...text.slice(units, word.at)].length;
		chars = from + [...word.text].length;
		units = word.at + word.text.length;
		return { start: word.start, end: word.end, from, to: chars };
	});
}

// --- units that no line breaks

// Digits stay with the word before: SubRip readers take a last line of digits for a cue number.
function unitsOf(chars) {
	const units = [];
	for (const [from, to] of pieces(chars)) {
		const last = units.at(-1);
		const isNumber = /^\p{Nd}+$/u.test(chars.slice(from, to).join(""));
		if (last && isNumber && columns(chars.slice(last.from, to)) <= WIDTH) last.to = to;
		else units.push({ from, to });
	}
	return units;
}

// Words; characters of languages without spaces; pieces of words wider than a line.
function* pieces(chars) {
	let [from, taken] = [0, 0];
	for (const [at, c] of chars.entries()) {
		const size = columnsOf(c);
		if (c === " ") {
			if (at > from) yield [from, at];
			[from, taken] = [at + 1, 0];
			continue;
		}
		if (at > from && (taken + size > WIDTH || mayBreak(chars[at - 1], c))) {
			yield [from, at];
			[from, taken] = [at, 0];
		}
		taken += size;
	}
	if (from < chars.length) yield [from, chars.length];
}

function mayBreak(one, other) {
	const isWide = columnsOf(one) === 2 || columnsOf(other) === 2;
	return isWide && !NEVER_FIRST.includes(other) && !NEVER_LAST.includes(one) && !/\p{M}/u.test(other);
}

// Units with times of their words, between known times shared by characters.
function timed(units, turn, words, length) {
	const anchors = [[0, turn.start], ...words.flatMap((w) => [[w.from, w.start], [w.to, w.end]]), [length, turn.end]];
	const places = anchors.map(([place]) => place);
	let top = -Infinity;
	const known = anchors.map(([, time]) => Math.min((top = Math.max(top, time)), Math.max(turn.start, turn.end)));
	const between = (place, anchor) => {
		const before = Math.max(anchor - 1, 0);
		const share = (place - places[before]) / Math.max(places[anchor] - places[before], 1);
		return known[before] + share * (known[anchor] - known[before]);
	};
	return units.map(({ from, to }) => {
		const behind = count(places, (place) => place <= from);
		const anchor = count(places, (place) => place < to);
		const start = places[behind - 1] === from ? known[behind - 1] : between(from, behind);
		return { from, to, start, end: places[anchor] === to ? known[anchor] : between(to, anchor) };
	});
}

// --- lines and cuts

class Layout {
	#label;
	#sums = [0];

	constructor(chars, labelColumns) {
		this.#label = labelColumns;
		for (const c of chars) this.#sums.push(this.#sums.at(-1) + columnsOf(c));
	}

	#columns = (from, to) => this.#sums[to] - this.#sums[from];

	#wrapped(units, width) {
		const lines = [];
		for (const { from, to } of units) {
			const last = lines.at(-1);
			if (last && this.#columns(last[0], to) <= width - (lines.length === 1 ? this.#label : 0)) last[1] = to;
			else lines.push([from, to]);
		}
		return lines;
	}

	fits(units) {
		const taken = this.#label + this.#columns(units[0].from, units.at(-1).to);
		return units.length === 1 || taken <= WIDTH || (taken <= WIDTH * LINES + LINES && this.#wrapped(units, WIDTH).length <= LINES);
	}

	// Of even widths.
	lines(units) {
		const lines = this.#wrapped(units, WIDTH);
		for (let width = WIDTH >> 1; lines.length > 1 && width < WIDTH; width += 1) {
			const even = this.#wrapped(units, width);
			if (even.length === lines.length) return even;
		}
		return lines;
	}
}

// Ranges of units, one per cue, at minimum cost.
function cuts(units, layout, chars, isTimed) {
	const best = [[0, 0]];
	for (let end = 1; end <= units.length; end += 1) {
		let least = [Infinity, 0];
		for (const [start, cost] of starts(units, end, layout, chars, isTimed)) {
			const sum = best[start][0] + cost;
			if (sum <= least[0]) least = [sum, start];
		}
		best.push(least);
	}
	const found = [];
	for (let end = units.length; end; [, end] = best[end]) found.unshift([best[end][1], end]);
	return found;
}

// Possible starts, falling, of a cue that ends before unit `end`, with costs.
function* starts(units, end, layout, chars, isTimed) {
	const atEnd = costOfEnd(units, end, chars, isTimed);
	let pauses = 0;
	for (let start = end - 1; start >= 0; start -= 1) {
		const isJoined = start < end - 1;
		if (isTimed && isJoined && units[start + 1].start - units[start].end >= LONG_PAUSE) pauses += 1;
		const seconds = units[end - 1].end - units[start].start;
		if (isJoined && (seconds > LONGEST || !layout.fits(units.slice(start, end)))) return;
		yield [start, 1 + atEnd + 2 * pauses + (seconds < SHORT ? 0.5 : 0)];
	}
}

function costOfEnd(units, end, chars, isTimed) {
	const { from, to, end: time } = units[end - 1];
	if (end === units.length || (isTimed && units[end].start - time >= PAUSE)) return 0;
	const last = chars.slice(from, to).findLast((c) => !CLOSING.includes(c)) ?? "none";
	return SENTENCE_END.includes(last) ? 0 : CLAUSE_END.includes(last) ? 0.3 : 1;
}

// Start and end of every cue; gaps up to LONG_PAUSE are closed, within LONGEST.
function times(units, cut, turn) {
	const begins = cut.map(([from]) => units[from].start);
	const ends = cut.map(([, to]) => units[to - 1].end);
	if (begins[0] - turn.start <= Math.min(LONG_PAUSE, LONGEST - (ends[0] - begins[0]))) begins[0] = turn.start;
	return begins.map((start, i) => {
		const next = begins[i + 1] ?? turn.end;
		const end = next - ends[i] <= LONG_PAUSE ? next : ends[i];
		return [start, Math.max(Math.min(end, start + LONGEST), start + TICK)];
	});
}
