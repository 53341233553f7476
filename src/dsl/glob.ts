/** Names by pattern, as `report.metrics`, gates and stages' metrics have them: `*` stands for any characters, slashes too. */
export const glob = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split("*")
      .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"))
      .join(".*")}$`
  )
