/**
 * CSV as RFC 4180 has it, record by record from chunks of text: quoted cells may hold delimiters, line breaks and
 * doubled quotes; LF, CRLF and CR end a record; a byte-order mark is dropped; blank lines are skipped. TSV is the same
 * with tabs and without quoting.
 */

/** One record with the line (from 1) it begins on. */
export interface CsvRecord {
  readonly line: number
  readonly cells: ReadonlyArray<string>
}

/** A quote that is opened and never closed, or text after a closing quote. */
export class CsvFault extends Error {
  readonly line: number
  constructor(line: number, message: string) {
    super(message)
    this.line = line
  }
}

/** The records of a text that comes in chunks. Throws CsvFault. */
export async function* csvRecords(
  chunks: AsyncIterable<string> | Iterable<string>,
  options: { readonly delimiter: "," | "\t"; readonly quotes: boolean }
): AsyncGenerator<CsvRecord> {
  const { delimiter, quotes } = options
  let line = 1
  let begun = 1
  let cell = ""
  let cells: Array<string> = []
  // start: nothing of the cell read; plain; quoted: inside quotes; closing: a quote inside quotes, end or escape.
  let state: "start" | "plain" | "quoted" | "closing" = "start"
  let afterReturn = false
  let first = true

  const endCell = () => {
    cells.push(cell)
    cell = ""
    state = "start"
  }
  const endRecord = (): CsvRecord | null => {
    const blank = cells.length === 0 && cell === "" && state === "start"
    endCell()
    const record = blank ? null : { line: begun, cells }
    cells = []
    return record
  }

  for await (const chunk of chunks) {
    for (const character of first && chunk.startsWith("\uFEFF") ? chunk.slice(1) : chunk) {
      if (afterReturn && character === "\n") {
        afterReturn = false
        if (state !== "quoted") continue
      }
      afterReturn = character === "\r"
      const lineBreak = character === "\n" || character === "\r"
      if (state === "quoted") {
        if (character === '"') state = "closing"
        else cell += character
        if (lineBreak) line++
      } else if (state === "closing" && character === '"') {
        cell += '"'
        state = "quoted"
      } else if (character === delimiter) endCell()
      else if (lineBreak) {
        const record = endRecord()
        line++
        begun = line
        if (record !== null) yield record
      } else if (state === "closing") {
        throw new CsvFault(
          line,
          `text after a closing quote: ${JSON.stringify(character)}; double quotes inside quoted cells`
        )
      } else if (quotes && state === "start" && character === '"') state = "quoted"
      else {
        cell += character
        state = "plain"
      }
    }
    first = false
  }
  if (state === "quoted") throw new CsvFault(begun, "a quoted cell is never closed; the file may be truncated")
  const last = endRecord()
  if (last !== null) yield last
}
