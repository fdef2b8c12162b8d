// The transcript: words lit up by the player's time, sought by pointer and keys.
import { clock, count, doubt, speakerName, turnsOf } from "./turns.js";

const LINGER = 0.15; // Seconds a word stays lit.

export class TranscriptView {
	#place;
	#player;
	#follows;
	#words = []; // {start, end, element} of words, or of turns without timed words.
	#now = null;
	#chosen = null;

	constructor(place, player, follows) {
		[this.#place, this.#player, this.#follows] = [place, player, follows];
		place.addEventListener("click", ({ target }) => this.#clicked(target.closest("[data-start]")));
		place.addEventListener("keydown", (event) => this.#pressed(event));
		place.addEventListener("focusin", ({ target }) => target.matches(".word") && this.#choose(target));
		player.addEventListener("timeupdate", () => this.#light());
		player.addEventListener("play", () => this.#run());
	}

	// Returns the number of timed words and of speakers, and whether there are confidences.
	show(reply) {
		const turns = turnsOf(reply);
		const speakers = [...new Set(turns.map((turn) => turn.speaker))].filter((speaker) => speaker !== null);
		this.#words = [];
		this.#place.replaceChildren(...turns.map((turn, i) => this.#turn(turn, turns[i - 1], speakers)));
		this.#choose(this.#words[0]?.element);
		this.#words.sort((one, other) => one.start - other.start);
		const words = turns.flatMap((turn) => turn.words);
		return { words: words.length, speakers: speakers.length, hasDoubt: words.some((word) => word.probability !== undefined) };
	}

	#turn(turn, before, speakers) {
		const time = element("button", { type: "button", textContent: clock(turn.start), ariaLabel: `Play from ${clock(turn.start)}` });
		time.dataset.start = turn.start;
		const [row, text] = [element("div", { className: "turn" }), element("div")];
		if (turn.speaker !== null) {
			row.classList.add("spoken");
			row.style.setProperty("--speaker", `var(--s${speakers.indexOf(turn.speaker) % 6})`);
			if (turn.speaker !== before?.speaker) text.append(element("span", { className: "speaker", textContent: speakerName(turn.speaker) }));
		}
		text.append(...this.#texts(turn));
		row.append(time, text);
		return row;
	}

	// Words with the punctuation behind them, and what is between.
	#texts(turn) {
		const words = turn.words.length ? turn.words : [{ ...turn, at: 0 }];
		let shown = 0;
		return words.flatMap((word, i) => {
			const end = word.at + word.text.length;
			const [marks] = /^\S*/.exec(turn.text.slice(end, words[i + 1]?.at));
			const before = turn.text.slice(shown, word.at);
			shown = end + marks.length;
			return [before, this.#word(word, word.text + marks), i === words.length - 1 ? turn.text.slice(shown) : ""];
		});
	}

	#word({ start, end, probability }, textContent) {
		const shade = doubt(probability);
		const word = element("span", { className: `word ${shade}`, tabIndex: -1, textContent });
		if (shade) word.title = `${Math.round(100 * probability)} % certain`;
		word.dataset.start = start;
		this.#words.push({ start, end, element: word });
		return word;
	}

	// Marks the word of the player's time.
	#light() {
		const time = this.#player.currentTime;
		const last = this.#words[count(this.#words, (word) => word.start <= time) - 1];
		const now = last && time < last.end + LINGER ? last.element : null;
		if (now === this.#now) return;
		this.#now?.classList.remove("now");
		now?.classList.add("now");
		this.#now = now;
		if (now && this.#follows() && !this.#player.paused) keepVisible(now);
	}

	#run() {
		this.#light();
		if (!this.#player.paused) requestAnimationFrame(() => this.#run());
	}

	#clicked(target) {
		if (target && getSelection().isCollapsed) this.#playFrom(target);
	}

	#playFrom(target) {
		this.#player.currentTime = Number(target.dataset.start) + 0.001;
		this.#play();
	}

	#play() {
		this.#player.play().catch(() => {}); // What cannot be played, the player shows.
	}

	#pressed(event) {
		if (event.target !== this.#chosen || event.altKey || event.ctrlKey || event.metaKey) return;
		const next = this.#neighbour(event.key);
		if (next) next.focus();
		else if (event.key === "Enter") this.#playFrom(this.#chosen);
		else if (event.key === " " && this.#player.paused) this.#play();
		else if (event.key === " ") this.#player.pause();
		else return;
		event.preventDefault();
	}

	#neighbour(key) {
		const all = [...this.#place.querySelectorAll(".word")];
		const at = all.indexOf(this.#chosen);
		const row = this.#chosen.closest(".turn");
		return {
			ArrowRight: all[at + 1],
			ArrowLeft: all[at - 1],
			ArrowDown: row.nextElementSibling?.querySelector(".word"),
			ArrowUp: row.previousElementSibling?.querySelector(".word"),
			Home: all[0],
			End: all.at(-1),
		}[key];
	}

	// The word that the Tab key comes to.
	#choose(word) {
		if (this.#chosen) this.#chosen.tabIndex = -1;
		if (word) word.tabIndex = 0;
		this.#chosen = word;
	}
}

export const element = (name, values = {}) => Object.assign(document.createElement(name), values);

function keepVisible(word) {
	const { top, bottom } = word.getBoundingClientRect();
	if (top > 70 && bottom < innerHeight - 30) return;
	word.scrollIntoView({ block: "center" });
}

// Recordings of browsers have no duration before they are sought beyond their end.
export function load(player, file) {
	if (player.src) URL.revokeObjectURL(player.src);
	player.src = URL.createObjectURL(file);
	player.onloadedmetadata = () => {
		if (player.duration !== Infinity) return;
		player.addEventListener("durationchange", () => { player.currentTime = 0; }, { once: true });
		player.currentTime = 1e9;
	};
}
