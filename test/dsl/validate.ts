/** As much of JSON Schema 2020-12 as the generated schema uses, to see what an editor would mark. */
type S = boolean | { readonly [key: string]: unknown }

const isObject = (v: unknown): v is Readonly<Record<string, unknown>> =>
  typeof v === "object" && v !== null && !Array.isArray(v)

/** Paths at which a value breaks a schema. */
export const faults = (root: S, value: unknown, schema: S = root, path = ""): ReadonlyArray<string> => {
  if (typeof schema === "boolean") return schema ? [] : [path]
  const go = (v: unknown, s: unknown, p = path) => faults(root, v, s as S, p)
  const out: Array<string> = []
  const fail = (bad: boolean) => bad && out.push(path)
  for (const [word, arg] of Object.entries(schema)) {
    const list = Array.isArray(arg) ? arg : []
    if (word === "$ref")
      out.push(
        ...go(
          value,
          (root as never as { $defs: Record<string, S> }).$defs[String(arg).slice("#/$defs/".length)] ?? false
        )
      )
    else if (word === "type") fail(![arg].flat().some((t) => hasType(value, String(t))))
    else if (word === "enum") fail(!list.includes(value))
    else if (word === "const") fail(value !== arg)
    else if (word === "minimum") fail(typeof value === "number" && value < Number(arg))
    else if (word === "maximum") fail(typeof value === "number" && value > Number(arg))
    else if (word === "pattern") fail(typeof value === "string" && !new RegExp(String(arg)).test(value))
    else if (word === "anyOf") fail(list.every((s) => go(value, s).length > 0))
    else if (word === "allOf") out.push(...list.flatMap((s) => go(value, s)))
    else if (word === "if") out.push(...(go(value, arg).length === 0 ? go(value, schema["then"] ?? true) : []))
    else if (word === "required" && isObject(value)) fail(list.some((key) => !(key in value)))
    else if (word === "items" && Array.isArray(value)) out.push(...value.flatMap((v, i) => go(v, arg, `${path}/${i}`)))
    else if (word === "properties" && isObject(value)) {
      for (const [key, s] of Object.entries(arg as object))
        if (key in value) out.push(...go(value[key], s, `${path}/${key}`))
    } else if (word === "additionalProperties" && isObject(value)) {
      const known = Object.keys((schema["properties"] as object | undefined) ?? {})
      const patterns = Object.keys((schema["patternProperties"] as object | undefined) ?? {}).map((p) => new RegExp(p))
      for (const key of Object.keys(value))
        if (!known.includes(key) && !patterns.some((p) => p.test(key)))
          out.push(...go(value[key], arg, `${path}/${key}`))
    }
  }
  return [...new Set(out)]
}

const hasType = (v: unknown, t: string): boolean =>
  t === "integer"
    ? Number.isInteger(v)
    : t === "array"
      ? Array.isArray(v)
      : t === "object"
        ? isObject(v)
        : t === "null"
          ? v === null
          : typeof v === t
