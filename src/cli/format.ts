/** How counts, durations, sizes and bars are written for people. Pure. */
import { styleText } from "node:util"

/** `7 s`, `4 min`, `1 h 05 min`: for sentences. */
export const about = (seconds: number): string => {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 90) return `${minutes} min`
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`
}

/** `0:07`, `12:40`, `1:02:03`: for columns. */
export const clock = (seconds: number): string => {
  const whole = Math.max(0, Math.round(seconds))
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  return h > 0
    ? `${h}:${String(m).padStart(2, "0")}:${String(s).padStart(2, "0")}`
    : `${m}:${String(s).padStart(2, "0")}`
}

/** `1 cell`, `24 cells`. */
export const count = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString("en")} ${n === 1 ? one : many}`

/** Three significant digits, no exponent where none is needed: `0.412`, `1,240`, `1.2e-5`. */
export const number = (value: number | null): string => {
  if (value === null || !Number.isFinite(value)) return value === null ? "" : String(value)
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(1)
  if (size >= 1000) return Math.round(value).toLocaleString("en")
  return Number.isInteger(value) ? String(value) : value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3)
}

/** `91 MB`; decimal units. */
export const bytes = (n: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB"]
  let [value, unit] = [n, 0]
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1]
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** A bar of `width` characters, filled to `share` (clamped to 0..1). */
export const bar = (share: number, width: number): string => {
  const full = Math.round(Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)) * width)
  return "━".repeat(full) + "─".repeat(width - full)
}

/** At most `width` characters, the last one an ellipsis where something was cut. */
export const cut = (text: string, width: number): string =>
  text.length <= width ? text : width <= 1 ? "…".slice(0, width) : `${text.slice(0, width - 1)}…`

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan"

/** Colours text, or leaves it alone. */
export type Paint = (style: Style, text: string) => string

export const plain: Paint = (_, text) => text

/** ANSI colours where the stream is a terminal that wants them (NO_COLOR and FORCE_COLOR are heeded). */
export const paintFor =
  (stream: NodeJS.WriteStream): Paint =>
  (style, text) =>
    styleText(style, text, { stream })
