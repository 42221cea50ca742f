// The engine's statements are written so that SQLite and PostgreSQL take them; what is left to differ is translated here,
// once for each statement.

const quotes = /('(?:[^']|'')*'|"[^"]*"|--.*)/

/** A statement of the engine in PostgreSQL's words. `schema` is an identifier in its quotes. */
export function translate(sql: string, schema: string): string {
  const parts = listed(sql).split(quotes)
  let next = 0
  const number = (digits: string) => `$${digits === '' ? ++next : digits}`
  const text = parts.map((part, i) =>
    i % 2 === 1 ? part : words(part).replace(/\?(\d*)/g, (_, d: string) => number(d)),
  )
  return inSchema(extremes(text.join('')), schema)
}

/** Lists of numbers come as JSON text, of which `json_each` makes rows. */
const listed = (sql: string): string =>
  sql
    // With the state as it is, the planner would walk the dead entries of the index of what runs.
    .replace(/\b((?:j\.)?state) = 'running' AND ((?:j\.)?lease_token = )/g, "COALESCE($1, '') = 'running' AND $2")
    .replace(/ NOT IN \(SELECT value FROM json_each\((\?\d+)\)\)/g, ' <> ALL (gq_numbers($1))')
    .replace(/ IN \(SELECT value FROM json_each\((\?\d+)\)\)/g, ' = ANY (gq_numbers($1))')
    .replace(/SELECT value AS id FROM json_each\((\?\d+)\)/g, 'SELECT value AS id FROM unnest(gq_numbers($1)) AS value')
    .replace(/json_each\(([\w.?]+)\)/g, 'json_array_elements(CAST($1 AS json)) AS value')
    .replace(/json_group_array\(json\(value\)\)/g, `COALESCE(CAST(json_agg(value) AS text), '[]')`)
    .replace(/(\w+) ->> '\$\.(\w+)'/g, `CAST($1 AS json) ->> '$2'`)
    .replace(/json_(object|array)\(/g, 'json_build_$1(')

const words = (sql: string): string =>
  sql
    .replace(/\bAS ([a-z]+[A-Z]\w*)/g, 'AS "$1"')
    .replace(/\bAS INTEGER\b/g, 'AS bigint')
    .replace(/\binstr\(/g, 'strpos(')
    .replace(/\bjson_valid\(/g, 'gq_json_valid(')
    .replace(/\bLIKE\b/g, 'ILIKE') // that of SQLite takes no notice of case
    .replace(/\bLIMIT \+(\?\d+)/g, 'LIMIT NULLIF(CAST($1 AS bigint), -1)')
    .replace(/(\?\d+)(?= [-+] )/g, 'CAST($1 AS bigint)') // beside a number that is written out it would be taken for 32 bits
    .replace(/( [-+] )(\?\d+)/g, '$1CAST($2 AS bigint)')

/** MIN and MAX of two values: of one they are aggregates on both. */
function extremes(sql: string): string {
  return sql.replace(/\b(MIN|MAX)\(/g, (found, name: string, at: number) => {
    let depth = 0
    for (let i = at + found.length; i < sql.length; i++) {
      const char = sql[i]
      if (char === '(') depth++
      else if (char === ')' && depth-- === 0) return found
      else if (char === ',' && depth === 0) return `gq_${name.toLowerCase()}(`
    }
    return found
  })
}

/** Without a search_path, which a pooler between would not keep. */
const inSchema = (sql: string, schema: string): string =>
  sql.replace(/(?<![\w."])gq_\w+/g, (name) => `${schema}.${name}`)
