// Frozen, as 001: a change is a new file.

export const sql = `-- Up to which job the types of an older file are in gq_types.
   INSERT INTO gq_meta (key, value) SELECT 'types', '0' WHERE EXISTS (SELECT 1 FROM gq_jobs);`
