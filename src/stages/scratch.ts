/** Encoders from scratch: their size as parameters, and a word-level vocabulary of the texts they are trained on. */
import * as Param from "../dsl/param.ts"
import type { EncoderConfig } from "../models/encoderConfig.ts"
import { wordLevelFiles } from "../models/wordLevel.ts"

interface Size {
  readonly hiddenSize: number
  readonly layers: number
  readonly heads: number
  readonly intermediateSize: number
  readonly maxPositions: number
}

export const scratchFields = (size: Size) => ({
  hiddenSize: Param.int(size.hiddenSize, "scratch: width of the encoder", { min: 1 }),
  layers: Param.int(size.layers, "scratch: layers", { min: 1 }),
  heads: Param.int(size.heads, "scratch: attention heads; divides hiddenSize", { min: 1 }),
  intermediateSize: Param.int(size.intermediateSize, "scratch: width of the feed-forward layers", { min: 1 }),
  maxPositions: Param.int(size.maxPositions, "scratch: longest text in words; longer ones are cut", { min: 1 })
})

const [pad, unknown, classes, separator] = ["<pad>", "<unk>", "<cls>", "<sep>"] as const

/** The words of some texts, each once, sorted. */
export const wordsOf = (texts: ReadonlyArray<string>): ReadonlyArray<string> =>
  [...new Set(texts.flatMap((text) => text.split(/\s+/).filter((word) => word !== "")))].sort()

/** Configuration and tokenizer of an encoder that knows these words; `labels` make it a classifier. */
export const scratchModel = (
  size: Size,
  words: ReadonlyArray<string>,
  labels: ReadonlyArray<string>
): { readonly config: EncoderConfig; readonly tokenizerFiles: Readonly<Record<string, string>> } => {
  const special = labels.length > 0 ? [pad, unknown, classes, separator] : [pad, unknown]
  return {
    config: {
      kind: "encoder",
      vocabularySize: special.length + words.length,
      hiddenSize: size.hiddenSize,
      intermediateSize: size.intermediateSize,
      layers: size.layers,
      heads: size.heads,
      maxPositions: size.maxPositions,
      segments: 2,
      normEpsilon: 1e-12,
      labels
    },
    tokenizerFiles: wordLevelFiles({
      phrases: special.map((text) => ({ text, special: true })),
      words: words.filter((word) => !special.some((text) => word.includes(text))),
      roles: {
        pad_token: pad,
        unk_token: unknown,
        ...(labels.length > 0 ? { cls_token: classes, sep_token: separator } : {})
      }
    })
  }
}
