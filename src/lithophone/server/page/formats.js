// A reply -> txt, srt, vtt, json, as src/lithophone/formats.
import { allCues, labelOf, milliseconds } from "./cues.js";
import { turnsOf } from "./turns.js";

export const FORMATS = {
	txt: { type: "text/plain", write: (reply) => turnsOf(reply).map((turn) => `${labelOf(turn.speaker)}${turn.text}\n`).join("") },
	srt: { type: "application/x-subrip", write: srt },
	vtt: { type: "text/vtt", write: vtt },
	json: { type: "application/json", write: (reply) => `${JSON.stringify(reply, null, 2)}\n` },
};

const UNWRITABLE = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\p{Cs}\ufffe\uffff]/gu;
const written = (text) => text.replace(UNWRITABLE, "\ufffd");
const VTT_ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const escaped = (text) => text.replace(/[&<>]/g, (one) => VTT_ESCAPES[one]);

// SubRip has no escapes: arrows, and `<` or `{` of apparent tags, become full-width.
function srt(reply) {
	const cues = allCues(turnsOf(reply), srtGuard);
	return cues.map((cue, i) => `${i + 1}\n${srtTime(cue.start)} --> ${srtTime(cue.end)}\n${cue.label}${lines(cue)}\n\n`).join("");
}

function vtt(reply) {
	const cues = allCues(turnsOf(reply), guard);
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

// Control characters, and what readers take for a style override or a speaker label, are replaced.
function guard(text) {
	const named = text.endsWith("]: ") ? written(text) : written(text).replace(/^\[(?=[^\]]+\]: .)/, "［");
	return named.replace(/\{(?=\\)/g, "｛");
}
const srtGuard = (text) => guard(text).replace(/(--+)>/g, "$1＞").replace(/<(?=[^>]*>)/g, "＜");

const lasts = (start, end) => milliseconds(start) < milliseconds(end);
const srtTime = (seconds) => new Date(milliseconds(seconds)).toISOString().slice(11, 23).replace(".", ",");
const vttTime = (seconds) => new Date(milliseconds(seconds)).toISOString().slice(11, 23).replace(/^00:/, "");
