// What a program in JavaScript asks of a server, by the package openai: node openai_client.cjs URL FILE -> JSON
const fs = require("fs");
const OpenAI = require("openai");
const [, , url, path] = process.argv;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
const SHORT = { decode: "greedy", max_new_tokens: 6 };

const transcribed = (more) =>
  client.audio.transcriptions.create({ file: fs.createReadStream(path), model: "whisper-1", ...SHORT, ...more });

async function streamed() {
  const kinds = [];
  let text = "";
  for await (const event of await transcribed({ stream: true })) {
    kinds.push(event.type);
    text += event.delta ?? "";
  }
  return { kinds, text };
}

function chat(more) {
  const data = fs.readFileSync(path).toString("base64");
  const content = [
    { type: "text", text: "transcribe the speech with proper punctuation and capitalization." },
    { type: "input_audio", input_audio: { data, format: "wav" } },
  ];
  return client.chat.completions.create({ model: "tiny", messages: [{ role: "user", content }], ...SHORT, ...more });
}

async function chunks() {
  let text = "";
  for await (const chunk of await chat({ stream: true })) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

async function failure(asked) {
  try {
    await asked();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

async function fromMemory() {
  const file = await OpenAI.toFile(fs.readFileSync(path), "a.wav");
  return (await transcribed({ file })).text;
}

const CASES = {
  json: async () => (await transcribed({})).text,
  text: () => transcribed({ response_format: "text" }),
  srt: () => transcribed({ response_format: "srt" }),
  vtt: () => transcribed({ response_format: "vtt" }),
  verbose: () => transcribed({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"], language: "en" }),
  stream: streamed,
  memory: fromMemory,
  translation: async () =>
    (await client.audio.translations.create({ file: fs.createReadStream(path), model: "whisper-1", language: "fr", ...SHORT })).text,
  chat: async () => (await chat({})).choices[0].message.content,
  chunks,
  models: async () => (await client.models.list()).data.map((model) => model.id),
  model: async () => (await client.models.retrieve("tiny")).id,
  unknownModel: () => failure(() => transcribed({ model: "nothing" })),
  unknownField: () => failure(() => transcribed({ lanugage: "de" })),
  brokenFile: () => failure(async () => transcribed({ file: await OpenAI.toFile(Buffer.from("junk".repeat(99)), "a.wav") })),
  chatWithoutAudio: () => failure(() => client.chat.completions.create({ model: "tiny", messages: [{ role: "user", content: "hello" }] })),
};

(async () => {
  const found = {};
  for (const [name, run] of Object.entries(CASES)) found[name] = await run();
  console.log(JSON.stringify(found));
})();
