#include "bank/catalog/sqlite.h"

/* These texts are the format: sqlite_schema repeats them letter by letter, and open compares. That turns away, in
 * one check, a newer layout under an older number and every trick with views, virtual tables or generated columns
 * that bear our names. Users may add tables and indexes of their own. Format 2 is format 1 and what follows it here. */
const char *const reco_catalog_schema[] = {
    "CREATE TABLE bank(format INTEGER NOT NULL, d INTEGER NOT NULL, encoder TEXT NOT NULL, "
    "fingerprint TEXT NOT NULL, logit_scale REAL NOT NULL, job TEXT NOT NULL, next_id INTEGER NOT NULL, "
    "next_segment INTEGER NOT NULL, deleted INTEGER NOT NULL) STRICT",
    "CREATE TABLE segment(number INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL, "
    "file TEXT NOT NULL, bytes INTEGER NOT NULL, xxh3 TEXT NOT NULL) STRICT",
    "CREATE TABLE pair(id INTEGER PRIMARY KEY, caption TEXT NOT NULL, uri TEXT, meta TEXT, "
    "deleted INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT",
    "CREATE TABLE job(key TEXT PRIMARY KEY, next INTEGER NOT NULL, done INTEGER NOT NULL) STRICT",
    "CREATE INDEX pair_uri ON pair(uri) WHERE uri IS NOT NULL",
    "CREATE INDEX pair_deleted ON pair(id) WHERE deleted",
    "CREATE TABLE block(segment INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, sums BLOB NOT NULL) STRICT",
    "CREATE TABLE seal(sum INTEGER NOT NULL) STRICT",
};
const size_t reco_catalog_schema_count[RECO_CATALOG_FORMAT + 1] = {0, 6, 8};

const char *const reco_catalog_sql[RECO_SQL_COUNT] = {
    [RECO_SQL_INFO] =
        "SELECT format, d, encoder, fingerprint, logit_scale, next_id, next_segment, deleted, "
        "coalesce((SELECT done FROM job WHERE key = bank.job), 0) FROM bank",
    [RECO_SQL_SEGMENTS] = "SELECT number, first, rows, file, bytes, xxh3 FROM segment ORDER BY first",
    [RECO_SQL_DELETED] = "SELECT id FROM pair INDEXED BY pair_deleted WHERE deleted ORDER BY id",
    [RECO_SQL_RANGE] = "SELECT (SELECT min(id) FROM pair), (SELECT max(id) FROM pair)",
    [RECO_SQL_PAIR] = "SELECT caption, uri, meta, deleted, sum FROM pair WHERE id = ?1",
    [RECO_SQL_JOB] = "SELECT bank.job = ?1, job.next, job.done, "
                     "(SELECT next FROM job WHERE key = ?1 || '" RECO_JOB_FIRST "') "
                     "FROM bank LEFT JOIN job ON job.key = ?1",
    [RECO_SQL_IS_OBJECT] = "SELECT json_type(?1) = 'object'",
    [RECO_SQL_STAGE] = "INSERT INTO temp.staged(id, caption, uri, meta, sum) VALUES(?1, ?2, ?3, ?4, ?5)",
    [RECO_SQL_HAS] =
        "SELECT coalesce("
        "(SELECT min(id) FROM pair WHERE uri = ?1 AND (?2 IS NULL OR caption = ?2) AND NOT deleted), "
        "(SELECT min(id) FROM temp.staged WHERE uri = ?1 AND (?2 IS NULL OR caption = ?2)))",
    [RECO_SQL_PUBLISH] = "INSERT INTO pair(id, caption, uri, meta, deleted, sum) "
                         "SELECT id, caption, uri, meta, 0, sum FROM temp.staged ORDER BY id",
    [RECO_SQL_ADD_SEGMENT] = "INSERT INTO segment(number, first, rows, file, bytes, xxh3) "
                             "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [RECO_SQL_ADVANCE] = "UPDATE bank SET next_id = ?1, next_segment = ?2",
    [RECO_SQL_SAVE_JOB] = "INSERT INTO job(key, next, done) VALUES(?1, ?2, ?3) "
                          "ON CONFLICT(key) DO UPDATE SET next = excluded.next, done = excluded.done",
    [RECO_SQL_DROP_JOB] = "DELETE FROM job WHERE key = ?1",
    [RECO_SQL_PUBLISH_BLOCKS] = "INSERT INTO block(segment, bytes, sums) SELECT * FROM temp.staged_block",
    [RECO_SQL_STAGE_BLOCK] = "INSERT INTO temp.staged_block(segment, bytes, sums) VALUES(?1, ?2, ?3)",
    [RECO_SQL_SEALED_BANK] = "SELECT * FROM bank",
    [RECO_SQL_SEALED_SEGMENTS] = "SELECT * FROM segment ORDER BY number",
    [RECO_SQL_SEALED_JOBS] = "SELECT * FROM job ORDER BY key",
    [RECO_SQL_SEAL] = "SELECT sum FROM seal",
    [RECO_SQL_RESEAL] = "UPDATE seal SET sum = ?1",
    [RECO_SQL_DROP_SEGMENT] = "DELETE FROM segment WHERE number = ?1",
    [RECO_SQL_DROP_BLOCK] = "DELETE FROM block WHERE segment = ?1",
    [RECO_SQL_DROP_DELETED] = "DELETE FROM pair WHERE deleted",
    [RECO_SQL_NONE_DELETED] = "UPDATE bank SET deleted = 0, next_segment = ?1",
    [RECO_SQL_BLOCK] = "SELECT bytes, sums FROM block WHERE segment = ?1",
    [RECO_SQL_PAIRS] = "SELECT caption, uri, meta, deleted, sum, id FROM pair ORDER BY id",
    [RECO_SQL_INTEGRITY] = "PRAGMA integrity_check",
    [RECO_SQL_PICK_ID] = /* one that is picked already counts, too */
    "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair WHERE id = ?1 AND deleted = ?2",
    [RECO_SQL_PICK_URI] =
        "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair WHERE uri = ?1 AND deleted = ?2",
    [RECO_SQL_PICK_DELETED] =
        "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair INDEXED BY pair_deleted WHERE deleted",
    [RECO_SQL_FIND_DOUBLES] = /* of those that would come back, the newest does */
    "INSERT OR REPLACE INTO temp.doubled SELECT p.id FROM temp.picked JOIN pair p USING(id) WHERE EXISTS "
    "(SELECT 1 FROM pair o WHERE o.uri = p.uri AND o.caption = p.caption AND o.id <> p.id AND "
    "(NOT o.deleted OR (o.id > p.id AND o.id IN (SELECT id FROM temp.picked))))",
    [RECO_SQL_DOUBLED] = "SELECT id FROM temp.doubled WHERE id >= ?1 ORDER BY id LIMIT ?2",
    [RECO_SQL_PICKED] = "SELECT id FROM temp.picked WHERE id >= ?1 ORDER BY id LIMIT ?2",
    [RECO_SQL_MARK_PICKED] = "UPDATE pair SET deleted = ?1, sum = ~sum "
                             "WHERE id IN (SELECT id FROM temp.picked) AND deleted = 1 - ?1",
    [RECO_SQL_COUNT_DELETED] = "UPDATE bank SET deleted = deleted + ?1",
};
