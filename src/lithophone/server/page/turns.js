// A verbose_json reply -> turns: text of one speaker with its words placed in it. Pure functions.

// [{start, end, text, speaker, words: [{start, end, text, probability, at}]}]; `at` is the place in the turn's text.
export function turnsOf(reply) {
	const segments = (reply.segments ?? []).map((segment) => ({ ...segment, text: segment.text.trim().split(/\s+/).join(" ") }));
	const rest = (reply.words ?? segments.flatMap((segment) => segment.words ?? [])).toReversed();
	const turns = segments.filter((segment) => segment.text).flatMap((segment, i, all) => bySpeaker(segment, take(rest, segment, all[i + 1])));
	return turns.toSorted((one, other) => one.start - other.start);
}

// Words of a segment, removed from the end of `rest`. A word that its segment's text lacks is left out.
function take(rest, segment, next) {
	const placed = [];
	let at = 0;
	while (rest.length) {
		const word = rest[rest.length - 1];
		const text = word.word.trim();
		const found = text ? segment.text.indexOf(text, at) : -1;
		const isLater = next && (word.start + word.end) / 2 >= next.start;
		if (isLater && (found < 0 || word.start >= segment.end)) break;
		rest.pop();
		if (found < 0) continue;
		placed.push({ ...word, text, at: found });
		at = found + text.length;
	}
	return placed;
}

function bySpeaker(segment, words) {
	const speaker = (word) => word?.speaker ?? segment.speaker ?? null;
	const { start, end, text } = segment;
	const cut = words.findIndex((word, i) => i && speaker(word) !== speaker(words[i - 1]));
	if (cut < 0) return [{ start, end, text, words, speaker: speaker(words[0]) }];
	const { at } = words[cut];
	const first = { start, end: words[cut - 1].end, text: text.slice(0, at).trimEnd(), words: words.slice(0, cut), speaker: speaker(words[0]) };
	const later = words.slice(cut).map((word) => ({ ...word, at: word.at - at }));
	return [first, ...bySpeaker({ ...segment, start: later[0].start, text: text.slice(at) }, later)];
}

export function speakerName(speaker) {
	const name = String(speaker ?? "").trim().split(/\s+/).join(" ");
	return /^\p{Nd}+$/u.test(name) ? `Speaker ${name}` : name;
}

// Seconds -> 0:07, 12:34, 1:02:03.
export function clock(seconds) {
	return new Date(seconds * 1000).toISOString().slice(11, 19).replace(/^(00:0?|0)/, "");
}

// Class of the shading; "" for a certain word, or an unknown confidence.
export function doubt(probability) {
	if (typeof probability !== "number" || probability >= 0.9) return "";
	return probability >= 0.75 ? "c1" : probability >= 0.5 ? "c2" : "c3";
}

// Number of items, of rising order, for which `isBefore` is true.
export function count(items, isBefore) {
	let [low, high] = [0, items.length];
	while (low < high) {
		const middle = (low + high) >> 1;
		if (isBefore(items[middle])) low = middle + 1;
		else high = middle;
	}
	return low;
}
