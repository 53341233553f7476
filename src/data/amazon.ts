/**
 * Amazon Reviews 2023 (McAuley Lab; files `meta_*.jsonl` and `*.jsonl` of a category) as logged slates, as POPE reads them
 * (arXiv 2509.19333, section 5): the query is its prompt with the item's description, the responses are the item's reviews, the
 * votes their helpful votes.
 *
 * | file | fields |
 * | --- | --- |
 * | items | `parent_asin`, `title`, `description` (a list of texts) |
 * | reviews | `parent_asin`, `text`, `helpful_vote`[, `asin`, `rating`] |
 *
 * Items without a description and reviews of unknown items are left out and counted, as are reviews without text.
 */
import { Effect, Result, Stream } from "effect"
import { DataError, EmptyDataset } from "./DataError.ts"
import { badField, has, noLayout, type Read, text, texts } from "./fields.ts"
import type { LoggedResponse, LoggedSlate } from "./records.ts"
import { type RawRow, sourceStem, streamRows } from "./rows.ts"

/** POPE's prompt, as the paper prints it. */
export const reviewPrompt = "Please Write helpful reviews for this product:"

export interface AmazonOptions {
  /** Reviews of an item that are kept: the most helpful ones, in the file's order. */
  readonly mostReviews: number
  /** Items with fewer are left out. */
  readonly leastReviews: number
  /** Longer descriptions and reviews are cut at a word, in characters. */
  readonly longest: number
}

export interface AmazonSlates {
  readonly slates: ReadonlyArray<LoggedSlate>
  /** What was left out. */
  readonly undescribed: number
  readonly unknown: number
  readonly wordless: number
  readonly few: number
}

/** The text up to a limit of characters, cut between words. */
const cut = (given: string, longest: number): string => {
  const one = given.replaceAll(/\s+/g, " ").trim()
  if (one.length <= longest) return one
  const at = one.lastIndexOf(" ", longest)
  return one.slice(0, at > 0 ? at : longest)
}

const lacking = (row: RawRow, wanted: string, ...columns: ReadonlyArray<string>): Read<void> => {
  const missing = columns.filter((column) => !has(row, column))
  return missing.length === 0 ? Result.succeed(undefined) : noLayout(row, wanted, missing)
}

const itemOf = (row: RawRow): Read<{ readonly id: string; readonly description: string }> =>
  Result.gen(function* () {
    yield* lacking(row, "item", "parent_asin", "description")
    const id = yield* text(row, "parent_asin")
    const given = row.values["description"]
    if (given === null || (Array.isArray(given) && given.length === 0)) return { id, description: "" }
    const parts = yield* texts(row, "description")
    return { id, description: parts.join(" ") }
  })

const reviewOf = (row: RawRow): Read<{ readonly item: string; readonly said: string; readonly votes: number }> =>
  Result.gen(function* () {
    yield* lacking(row, "review", "parent_asin", "text", "helpful_vote")
    const item = yield* text(row, "parent_asin")
    const said = yield* text(row, "text", { empty: true })
    const votes = row.values["helpful_vote"]
    if (typeof votes !== "number" || !Number.isFinite(votes) || votes < 0) {
      return yield* badField(
        row,
        "helpful_vote",
        `is ${JSON.stringify(votes)}, not a count of at least 0; drop the row`
      )
    }
    return { item, said, votes }
  })

/** The most helpful responses, in the order they came in. */
const mostHelpful = (responses: ReadonlyArray<LoggedResponse>, most: number): ReadonlyArray<LoggedResponse> => {
  const kept = new Set(
    [...responses.keys()].toSorted((a, b) => responses[b]!.votes! - responses[a]!.votes! || a - b).slice(0, most)
  )
  return responses.filter((_, k) => kept.has(k))
}

/** Slates of a category's items and reviews, items in the order of their file. */
export const readAmazon = (
  items: string,
  reviews: string,
  options: AmazonOptions
): Effect.Effect<AmazonSlates, DataError> =>
  Effect.gen(function* () {
    const read = <A>(path: string, of: (row: RawRow) => Read<A>) =>
      streamRows({ path }).pipe(
        Stream.mapEffect((row) => Effect.fromResult(of(row))),
        Stream.runCollect
      )
    const found = new Map<string, { readonly description: string; readonly responses: Array<LoggedResponse> }>()
    let [undescribed, unknown, wordless, few] = [0, 0, 0, 0]
    for (const { description, id } of yield* read(items, itemOf)) {
      if (description.trim() === "") undescribed++
      else found.set(id, { description: cut(description, options.longest), responses: [] })
    }
    for (const { item, said, votes } of yield* read(reviews, reviewOf)) {
      const known = found.get(item)
      if (known === undefined) unknown++
      else if (said.trim() === "") wordless++
      else known.responses.push({ text: cut(said, options.longest), votes })
    }
    const source = sourceStem({ path: reviews })
    const slates: Array<LoggedSlate> = []
    for (const [id, { description, responses }] of found) {
      const [first, ...rest] = mostHelpful(responses, options.mostReviews)
      if (first === undefined || rest.length + 1 < options.leastReviews) {
        few++
        continue
      }
      slates.push({
        id,
        promptId: id,
        prompt: `${reviewPrompt} ${description}`,
        responses: [first, ...rest],
        source
      })
    }
    if (slates.length === 0) {
      return yield* new DataError({
        reason: new EmptyDataset({ source: reviews, wanted: `item of ${items} with ${options.leastReviews} reviews` })
      })
    }
    return { slates, undescribed, unknown, wordless, few }
  })
