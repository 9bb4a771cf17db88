// One turn of each kind through the Vercel AI SDK; prints what came as one JSON line.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, apiKey, model, embedder] = process.argv.slice(2);
const baseURL = `${url}/v1`;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "fleet", baseURL, apiKey, includeUsage: true });
const anthropic = createAnthropic({ baseURL, apiKey });
const models = {
  responses: openai(model),
  chat: openai.chat(model),
  compatible: compatible(model),
  messages: anthropic(model),
};

function tools(seen) {
  const execute = async ({ city }) => {
    seen.push(city);
    return "rain";
  };
  const inputSchema = z.object({ city: z.string() });
  return { weather: tool({ description: "weather of a city", inputSchema, execute }) };
}

async function turns(chosen) {
  const asked = { model: chosen, prompt: "hello", maxRetries: 0 };
  const whole = await generateText(asked);
  const stream = streamText(asked);
  let streamed = "";
  for await (const piece of stream.textStream) streamed += piece;
  const usage = await stream.usage;
  const seen = [];
  const tooled = await generateText({ ...asked, tools: tools(seen), stopWhen: stepCountIs(3) });
  return {
    whole: whole.text,
    whole_tokens: whole.usage.outputTokens,
    streamed,
    streamed_tokens: usage.outputTokens,
    tooled: tooled.text,
    seen,
  };
}

const told = {};
for (const [name, chosen] of Object.entries(models)) {
  try {
    told[name] = await turns(chosen);
  } catch (error) {
    told[name] = { error: `${error} ${error.responseBody ?? ""}` };
  }
}
try {
  const given = await embed({ model: openai.embedding(embedder), value: "one", maxRetries: 0 });
  told.embedding = given.embedding;
} catch (error) {
  told.embedding = String(error);
}
console.log(JSON.stringify(told));
