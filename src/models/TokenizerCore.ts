/** What every tokenizer does, whichever file format or rule of spacing it comes from. */

/** Token ids of one text, or of a pair of texts, with the segment that each token belongs to (BERT's token types). */
export interface Encoding {
  readonly ids: ReadonlyArray<number>
  readonly segments: ReadonlyArray<number>
}

/** What a tokenizer does, whatever its special tokens and files are. */
export interface TokenizerCore {
  /** One more than the largest id. */
  readonly vocabularySize: number
  /** Ids of a text, without any special tokens that the text does not spell out. */
  readonly encode: (text: string) => ReadonlyArray<number>
  /** Ids of a text or pair with the special tokens that the model expects round them (`[CLS] a [SEP] b [SEP]`). */
  readonly encodeForModel: (text: string, pair?: string) => Encoding
  /** The text of some ids; special tokens are left out unless `special` is true. */
  readonly decode: (ids: Iterable<number>, options?: { readonly special?: boolean }) => string
  readonly idOf: (token: string) => number | undefined
  readonly tokenOf: (id: number) => string | undefined
}
