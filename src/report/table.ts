/** Rows in aligned columns of plain text, for terminals and logs. Pure. */

export type Align = "left" | "right"

export interface Column {
  readonly name: string
  readonly align?: Align
}

export interface TableOptions {
  /** No line is longer than this many characters: the widest columns are cut, with an ellipsis. */
  readonly width?: number
}

// Marks that combine with the character before them take no column; East Asian wide characters and emoji take two.
const segmenter = new Intl.Segmenter()
const isWide = (code: number): boolean =>
  (code >= 0x1100 && code <= 0x115f) ||
  (code >= 0x2e80 && code <= 0xa4cf) ||
  (code >= 0xac00 && code <= 0xd7a3) ||
  (code >= 0xf900 && code <= 0xfaff) ||
  (code >= 0xfe30 && code <= 0xfe6f) ||
  (code >= 0xff00 && code <= 0xff60) ||
  (code >= 0xffe0 && code <= 0xffe6) ||
  (code >= 0x1f300 && code <= 0x1faff) ||
  (code >= 0x20000 && code <= 0x3fffd)

const isPlain = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

/** Columns of a terminal that a text takes. */
export const widthOf = (text: string): number => {
  if (isPlain(text)) return text.length
  let width = 0
  for (const { segment } of segmenter.segment(text)) width += isWide(segment.codePointAt(0) ?? 0) ? 2 : 1
  return width
}

/** The text, or as much of it as fits with an ellipsis. */
export const shorten = (text: string, width: number): string => {
  if (widthOf(text) <= width) return text
  if (width <= 1) return "…".slice(0, width)
  let [kept, used] = ["", 0]
  for (const { segment } of segmenter.segment(text)) {
    const more = isWide(segment.codePointAt(0) ?? 0) ? 2 : 1
    if (used + more > width - 1) break
    kept += segment
    used += more
  }
  return `${kept}…`
}

/** Widths that sum to at most `room`, taken from the widest columns. */
const shrink = (widths: ReadonlyArray<number>, room: number): ReadonlyArray<number> => {
  const out = [...widths]
  let over = out.reduce((a, b) => a + b, 0) - room
  while (over > 0) {
    const most = Math.max(...out)
    if (most <= 4) break
    const next = Math.max(4, ...out.filter((w) => w < most))
    const which = out.flatMap((w, i) => (w === most ? [i] : []))
    const each = Math.min(most - next, Math.ceil(over / which.length))
    for (const i of which) {
      const cut = Math.min(each, over)
      out[i] = most - cut
      over -= cut
    }
  }
  return out
}

/** Control characters would break the alignment: shown as escapes. */
const oneLine = (text: string): string =>
  /\p{Cc}/u.test(text) ? text.replace(/\p{Cc}/gu, (c) => JSON.stringify(c).slice(1, -1)) : text

/** A heading, a rule and the rows; no trailing white space, no final newline. */
export const table = (
  columns: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  options: TableOptions = {}
): string => {
  const cells = rows.map((row) => columns.map((_, c) => oneLine(row[c] ?? "")))
  const heads = columns.map((column) => oneLine(column.name))
  const natural = heads.map((head, c) => cells.reduce((w, row) => Math.max(w, widthOf(row[c]!)), widthOf(head)))
  const widths = options.width === undefined ? natural : shrink(natural, options.width - 2 * (columns.length - 1))
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, c) => {
        const text = shorten(cell, widths[c]!)
        const space = " ".repeat(Math.max(0, widths[c]! - widthOf(text)))
        return columns[c]!.align === "right" ? space + text : text + space
      })
      .join("  ")
      .trimEnd()
  return [
    line(heads),
    widths
      .map((w) => "─".repeat(w))
      .join("  ")
      .trimEnd(),
    ...cells.map(line)
  ].join("\n")
}
