/** A pretrained sentence encoder: a Hugging Face or sentence-transformers folder, or `hf://org/name@revision`. */
import { Effect } from "effect"
import { Encoder } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import * as SentenceEncoder from "../models/SentenceEncoder.ts"
import { copyModel, openModel } from "./modelFolder.ts"

export const EncoderParams = Param.struct({
  path: Param.model(
    "hf://sentence-transformers/all-MiniLM-L6-v2@main",
    "a BERT sentence encoder: a folder, or hf://org/name@revision"
  )
})

export const encoder = Stage.make("encoder", {
  module: import.meta.url,
  version: 1,
  params: EncoderParams,
  inputs: {},
  outputs: { encoder: Encoder },
  device: true,
  run: Effect.fn("stage.encoder")(function* ({ outputs, params }) {
    const folder = yield* openModel(params.path.path)
    yield* SentenceEncoder.load(folder)
    yield* copyModel(folder, outputs.encoder.dir)
  })
})
