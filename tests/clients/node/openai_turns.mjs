// One turn of each kind through openai-node; prints what came as one JSON line.
import OpenAI from "openai";

const [baseURL, apiKey, model, embedder] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};

async function whole() {
  const given = await client.chat.completions.create({ model, messages });
  const { choices, usage } = given;
  const text = choices[0].message.content;
  return { text, usage, model: given.model, request_id: given._request_id };
}

async function streamed() {
  const options = { model, messages, stream: true, stream_options: { include_usage: true } };
  let text = "";
  let usage = null;
  for await (const chunk of await client.chat.completions.create(options)) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  return { text, usage };
}

async function responded() {
  const stream = client.responses.stream({ model, input: "hello" });
  const final = await stream.finalResponse();
  return { text: final.output_text, usage: final.usage };
}

async function tooled() {
  const seen = [];
  const weather = (given) => {
    seen.push(given.city);
    return "rain";
  };
  const runner = client.chat.completions.runTools({
    model,
    messages,
    stream: true,
    tools: [
      { type: "function", function: { name: "weather", parse: JSON.parse, function: weather, parameters } },
    ],
  });
  return { text: await runner.finalContent(), seen };
}

async function embedded() {
  const given = await client.embeddings.create({ model: embedder, input: ["one", "two"] });
  return { vectors: given.data.map((one) => one.embedding) };
}

async function listed() {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  return { ids, found: (await client.models.retrieve(model)).id };
}

async function refused() {
  try {
    await client.chat.completions.create({ model: "nothing", messages });
  } catch (error) {
    return { name: error.constructor.name, code: error.code, request_id: error.requestID };
  }
}

const turns = { whole, streamed, responded, embedded, listed, refused, tooled };
const told = {};
for (const [name, turn] of Object.entries(turns)) {
  try {
    told[name] = await turn();
  } catch (error) {
    told[name] = { error: String(error) };
  }
}
console.log(JSON.stringify(told));
