// A reply -> txt, srt, vtt, json, as src/lithophone/formats.
import { cuesOf, labelOf } from "./cues.js";
import { turnsOf } from "./turns.js";

export const FORMATS = {
	txt: { type: "text/plain", write: (reply) => turnsOf(reply).map((turn) => `${labelOf(turn.speaker)}${turn.text}\n`).join("") },
	srt: { type: "application/x-subrip", write: srt },
	vtt: { type: "text/vtt", write: vtt },
	json: { type: "application/json", write: (reply) => `${JSON.stringify(reply, null, 2)}\n` },
};

const VTT_ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const escaped = (text) => text.replace(/[&<>]/g, (one) => VTT_ESCAPES[one]);

// SubRip has no escapes: arrows, and `<` or `{` of apparent tags, become full-width.
function srt(reply) {
	const cues = turnsOf(reply).flatMap((turn) => cuesOf(turn, srtGuard));
	return cues.map((cue, i) => `${i + 1}\n${srtTime(cue.start)} --> ${srtTime(cue.end)}\n${cue.label}${lines(cue)}\n\n`).join("");
}

function vtt(reply) {
	const cues = turnsOf(reply).flatMap((turn) => cuesOf(turn, guard));
	const shown = cues.map((cue) => `${vttTime(cue.start)} --> ${vttTime(cue.end)}\n${escaped(cue.label)}${stamped(cue)}\n\n`);
	return `WEBVTT\n\n${shown.join("")}`;
}

const lines = (cue, before = {}, one = String) =>
	cue.lines.map(([from, to]) => cue.chars.slice(from, to).map((c, i) => (before[from + i] ?? "") + one(c)).join("")).join("\n");

// The cue with a time stamp before every word; stamps rise, inside the cue.
function stamped(cue) {
	const stamps = {};
	let last = cue.start;
	for (const { start, end, from } of cue.words) {
		if (lasts(last, start) && lasts(start, Math.min(end, cue.end))) {
			stamps[from] = `<${vttTime(start)}>`;
			last = start;
		}
	}
	return lines(cue, stamps, escaped);
}

// What readers take for a style override or a speaker label is replaced.
function guard(text) {
	const named = text.endsWith("]: ") ? text : text.replace(/^\[(?=[^\]]+\]: .)/, "［");
	return named.replace(/\{(?=\\)/g, "｛");
}
const srtGuard = (text) => guard(text).replace(/(--+)>/g, "$1＞").replace(/<(?=[^>]*>)/g, "＜");

// Half to even, as Python.
function milliseconds(seconds) {
	const near = Math.round(seconds * 1000);
	return near - seconds * 1000 === 0.5 ? 2 * Math.floor(near / 2) : near;
}
const lasts = (start, end) => milliseconds(start) < milliseconds(end);
const srtTime = (seconds) => new Date(milliseconds(seconds)).toISOString().slice(11, 23).replace(".", ",");
const vttTime = (seconds) => new Date(milliseconds(seconds)).toISOString().slice(11, 23).replace(/^00:/, "");
