/** How onnxruntime words its failures. */
import { failureBy } from "../failure.ts"
import { OrtFailure } from "./api.ts"

/** The node that a message of the library speaks of. */
const nodeOf = (message: string): string | null => {
  const found =
    /Name:'([^']+)'/.exec(message) ?? /[Nn]ode:? ?\(([^)]+)\)/.exec(message) ?? /name[: ]+'([^']+)'/.exec(message)
  return found?.[1] ?? null
}

/** The first sentences of a message, without the library's own source lines. */
const detailOf = (message: string): string => message.replace(/\s*\/[^\s:]+\.(cc|h):\d+[^\n]*?(?=[A-Z]|$)/g, " ").trim()

/** The error that a caller of the device sees for what was thrown; anything unknown is thrown on, as a bug. */
export const deviceFailure = failureBy({
  // Dawn's words
  isLost: (message) => /device (?:is |was )?lost|\[Device[^\]]*\] is lost/i.test(message),
  isMemory: ({ message }) => /bad_alloc|Failed to allocate memory/.test(message),
  read: (error) =>
    error instanceof OrtFailure ? { node: nodeOf(error.message), detail: detailOf(error.message) } : undefined
})
