import type { WordLevelSpec } from "../../src/models/wordLevel.ts"

/** A small world's tokenizer. */
export const worldSpec: WordLevelSpec = {
  phrases: [
    { text: "<pad>", special: true },
    { text: "<bos>", special: true, hug: "both" },
    { text: "<sep>", special: true, hug: "both" },
    { text: "<eos>", special: true, hug: "both" },
    { text: "[UNK]", special: true },
    { text: "<core perspectives>", hug: "both" },
    { text: "</core perspectives>", hug: "both" },
    { text: "<summary>", hug: "both" },
    { text: "</summary>", hug: "both" },
    { text: "In the perspective of" },
    { text: ",", hug: "left" },
    { text: "\n", hug: "both" }
  ],
  words: ["Justice", "Care", "Duty", "farmer", "sells", "well", "because", "The", "of"],
  roles: { pad_token: "<pad>", bos_token: "<bos>", sep_token: "<sep>", eos_token: "<eos>", unk_token: "[UNK]" }
}
