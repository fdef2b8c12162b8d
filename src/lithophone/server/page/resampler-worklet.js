// AudioWorklet: samples of the context -> int16 at 16 kHz, in pieces of 100 ms.

const RATE = 16000;
const CROSSINGS = 16; // Zero crossings of the low-pass on each side.

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

// Polyphase: a sinc under a Hann window, with state between blocks.
export class Resampler {
	constructor(rateIn, rateOut = RATE) {
		const common = divisor(rateIn, rateOut);
		this.up = rateOut / common;
		this.down = rateIn / common;
		const cutoff = Math.min(1, rateOut / rateIn) * 0.95;
		this.half = Math.ceil(CROSSINGS / cutoff);
		this.kernels = Array.from({ length: this.up }, (_, phase) => this.kernel(phase / this.up, cutoff));
		this.held = new Float32Array(this.half - 1); // Input still needed; at first silence.
		this.phase = 0;
	}

	kernel(offset, cutoff) {
		const taps = Float32Array.from({ length: 2 * this.half }, (_, i) => {
			const x = i - (this.half - 1) - offset;
			const window = Math.abs(x) < this.half ? 0.5 + 0.5 * Math.cos((Math.PI * x) / this.half) : 0;
			return window * (x ? Math.sin(Math.PI * cutoff * x) / (Math.PI * x) : cutoff);
		});
		const gain = taps.reduce((sum, tap) => sum + tap);
		return taps.map((tap) => tap / gain);
	}

	push(block) {
		const input = Float32Array.of(...this.held, ...block);
		const output = [];
		let at = 0;
		while (at + 2 * this.half <= input.length) {
			const kernel = this.kernels[this.phase];
			let sum = 0;
			for (let i = 0; i < kernel.length; i += 1) sum += kernel[i] * input[at + i];
			output.push(sum);
			this.phase += this.down;
			at += Math.floor(this.phase / this.up);
			this.phase %= this.up;
		}
		this.held = input.slice(at);
		return output;
	}

	flush() {
		return this.push(new Float32Array(this.half));
	}
}

if (typeof registerProcessor === "function") {
	class ToInt16 extends AudioWorkletProcessor {
		resampler = new Resampler(sampleRate);
		piece = new Int16Array(RATE / 10);
		filled = 0;
		ended = false;

		constructor() {
			super();
			this.port.onmessage = () => this.end();
		}

		process([channels]) {
			if (!this.ended && channels.length) this.take(this.resampler.push(channels[0]));
			return !this.ended;
		}

		take(samples) {
			for (const sample of samples) {
				this.piece[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
				if (this.filled === this.piece.length) this.send();
			}
		}

		send() {
			this.port.postMessage(this.piece.slice(0, this.filled));
			this.filled = 0;
		}

		end() {
			this.take(this.resampler.flush());
			this.send();
			this.ended = true;
			this.port.postMessage(null);
		}
	}
	registerProcessor("to-int16", ToInt16);
}
