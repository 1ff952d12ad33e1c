#include "bank/catalog/sqlite.h"

#define PAIR                                                                                               \
    "CREATE TABLE pair(id INTEGER PRIMARY KEY, caption TEXT NOT NULL, uri TEXT, meta TEXT, "               \
    "deleted INTEGER NOT NULL, sum INTEGER NOT NULL"

/* These texts are the format: sqlite_schema repeats them letter by letter, and open compares. That turns away, in
 * one check, a newer layout under an older number and every trick with views, virtual tables or generated columns
 * that bear our names. Users may add tables and indexes of their own. */
const reco_sql_text reco_catalog_schema[] = {
    {1, 3,
     "CREATE TABLE bank(format INTEGER NOT NULL, d INTEGER NOT NULL, encoder TEXT NOT NULL, "
     "fingerprint TEXT NOT NULL, logit_scale REAL NOT NULL, job TEXT NOT NULL, next_id INTEGER NOT NULL, "
     "next_segment INTEGER NOT NULL, deleted INTEGER NOT NULL) STRICT"},
    {1, 3,
     "CREATE TABLE segment(number INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL, "
     "file TEXT NOT NULL, bytes INTEGER NOT NULL, xxh3 TEXT NOT NULL) STRICT"},
    {1, 2, PAIR ") STRICT"},
    {3, 3, PAIR ", source INTEGER, place BLOB, content BLOB) STRICT"},
    {1, 3, "CREATE TABLE job(key TEXT PRIMARY KEY, next INTEGER NOT NULL, done INTEGER NOT NULL) STRICT"},
    {1, 3, "CREATE INDEX pair_uri ON pair(uri) WHERE uri IS NOT NULL"},
    {1, 3, "CREATE INDEX pair_deleted ON pair(id) WHERE deleted"},
    {2, 3,
     "CREATE TABLE block(segment INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, sums BLOB NOT NULL) STRICT"},
    {2, 3, "CREATE TABLE seal(sum INTEGER NOT NULL) STRICT"},
    {3, 3, "CREATE TABLE source(number INTEGER PRIMARY KEY, base TEXT NOT NULL) STRICT"},
    {3, 3, /* a picture may have thousands of captions, which need not lie here whole */
     "CREATE INDEX pair_place ON pair(place, length(caption), substr(caption, -16)) "
     "WHERE place IS NOT NULL"},
    {3, 3, "CREATE INDEX pair_content ON pair(content) WHERE content IS NOT NULL"},
    {3, 3, "CREATE INDEX pair_unplaced ON pair(uri) WHERE place IS NULL AND uri IS NOT NULL"},
    {0},
};

/* What format 3 added to pair, in older banks. */
const reco_sql_text reco_catalog_old_sql[] = {
    {RECO_SQL_PAIR, 0,
     "SELECT caption, uri, meta, NULL, NULL, NULL, deleted, sum, NULL FROM pair WHERE id = ?1"},
    {RECO_SQL_PICK_URI, 0,
     "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair WHERE uri = ?1 AND deleted = ?2 AND ?3 IS NOT "
     "0"},
    {RECO_SQL_PAIRS, 0,
     "SELECT caption, uri, meta, NULL, NULL, NULL, deleted, sum, NULL, id FROM pair ORDER BY id"},
    {RECO_SQL_FIND_DOUBLES, 0,
     "INSERT OR REPLACE INTO temp.doubled SELECT p.id FROM temp.picked JOIN pair p USING(id) WHERE EXISTS "
     "(SELECT 1 FROM pair o WHERE o.uri = p.uri AND o.caption = p.caption AND o.id <> p.id AND "
     "(NOT o.deleted OR (o.id > p.id AND o.id IN (SELECT id FROM temp.picked))))"},
    {0},
};

/* The value of column ?1 in a row's JSON; case and blanks around a name don't matter, the name as it is comes first. */
#define KEY_OF(meta)                                                                                       \
    "(SELECT CAST(value AS TEXT) FROM json_each(" meta                                                     \
    ") WHERE lower(trim(key)) = lower(trim(?1)) AND value IS NOT NULL ORDER BY key IS NOT ?1 LIMIT 1)"

#define STAGED_PAIRS                                                                                       \
    " INTO pair(id, caption, uri, meta, deleted, sum, source, place, content) "                            \
    "SELECT id, caption, uri, meta, 0, sum, source, place, content FROM temp.staged ORDER BY id"

#define PUT "INSERT INTO pair(id, caption, uri, meta, deleted, sum, source, place, content) VALUES"
#define PUT_1 "(?, ?, ?, ?, 0, ?, ?, ?, ?)"
#define PUT_2 PUT_1 ", " PUT_1
#define PUT_8 PUT_2 ", " PUT_2 ", " PUT_2 ", " PUT_2

const char *const reco_catalog_sql[RECO_SQL_COUNT] = {
    [RECO_SQL_HAS] = "SELECT count(*) FROM sqlite_schema WHERE sql = ?1",
    [RECO_SQL_INFO] =
        "SELECT format, d, encoder, fingerprint, logit_scale, next_id, next_segment, deleted, "
        "coalesce((SELECT done FROM job WHERE key = bank.job), 0) FROM bank",
    [RECO_SQL_SEGMENTS] = "SELECT number, first, rows, file, bytes, xxh3 FROM segment ORDER BY first",
    [RECO_SQL_DELETED] = "SELECT id FROM pair INDEXED BY pair_deleted WHERE deleted ORDER BY id",
    [RECO_SQL_RANGE] = "SELECT (SELECT min(id) FROM pair), (SELECT max(id) FROM pair)",
    [RECO_SQL_PAIR] =
        "SELECT caption, uri, meta, (SELECT base FROM source WHERE number = pair.source), place, "
        "content, deleted, sum, source FROM pair WHERE id = ?1",
    [RECO_SQL_JOB] = "SELECT bank.job = ?1, job.next, job.done, "
                     "(SELECT next FROM job WHERE key = ?1 || '" RECO_JOB_FIRST "') "
                     "FROM bank LEFT JOIN job ON job.key = ?1",
    [RECO_SQL_IS_OBJECT] = "SELECT json_type(?1) = 'object'",
    [RECO_SQL_STAGE] = "INSERT INTO temp.staged VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [RECO_SQL_STAGE_CHANGE] = "INSERT OR REPLACE INTO temp.changed VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [RECO_SQL_SEEK] = /* with + SQLite does not put ?2 into the expressions, which then are the index's */
    "SELECT id, content FROM (SELECT id, content FROM pair INDEXED BY pair_place WHERE place = ?1 "
    "AND length(caption) = length(?2) AND substr(caption, -16) = substr(?2, -16) AND +caption = ?2 "
    "AND NOT deleted UNION ALL SELECT id, content FROM temp.staged INDEXED BY staged_place WHERE place = "
    "?1 "
    "AND length(caption) = length(?2) AND substr(caption, -16) = substr(?2, -16) AND +caption = ?2) "
    "ORDER BY content IS NOT ?3, id LIMIT 1",
    [RECO_SQL_SEEK_PICTURE] =
        "SELECT id, content, count(*) OVER () FROM (SELECT id, content FROM pair INDEXED BY pair_place "
        "WHERE place = ?1 "
        "AND NOT deleted UNION ALL SELECT id, content FROM temp.staged INDEXED BY staged_place "
        "WHERE place = ?1) "
        "ORDER BY content IS NOT ?3, id LIMIT 1",
    [RECO_SQL_SEEK_UNPLACED] =
        "SELECT id, NULL FROM (SELECT id FROM pair INDEXED BY pair_unplaced WHERE place IS NULL AND "
        "uri IN (?1, ?3) AND uri IS NOT NULL AND (?2 IS NULL OR caption = ?2) AND NOT deleted UNION ALL "
        "SELECT id FROM temp.staged INDEXED BY staged_unplaced WHERE place IS NULL AND uri IN (?1, ?3) AND "
        "uri IS NOT NULL AND (?2 IS NULL OR caption = ?2)) "
        "ORDER BY id LIMIT 1",
    [RECO_SQL_SEEK_CONTENT] =
        "SELECT id FROM pair INDEXED BY pair_content WHERE content = ?1 AND NOT deleted "
        "ORDER BY id LIMIT 1",
    [RECO_SQL_TOUCH] = "INSERT OR IGNORE INTO temp.touched VALUES(?1)",
    [RECO_SQL_KEY_ROWS] = "INSERT INTO temp.keyed SELECT value, id FROM (SELECT " KEY_OF(
        "meta") " value, id "
                "FROM pair WHERE NOT deleted AND meta IS NOT NULL) WHERE value IS NOT NULL",
    [RECO_SQL_SEEK_KEY] =
        "SELECT k.value, (SELECT min(id) FROM temp.keyed WHERE value = k.value), (SELECT count(*) FROM "
        "temp.keyed WHERE value = k.value) FROM (SELECT nullif(" KEY_OF("?2") ", '') value) k",
    [RECO_SQL_ADD_KEY] = "INSERT INTO temp.keyed VALUES(" KEY_OF("?2") ", -1)",
    [RECO_SQL_SOURCE] = "SELECT number FROM source WHERE base = ?1 UNION ALL "
                        "SELECT number FROM temp.staged_source WHERE base = ?1 LIMIT 1",
    [RECO_SQL_STAGE_SOURCE] =
        "INSERT INTO temp.staged_source SELECT 1 + max(n), ?1 FROM (SELECT coalesce(max(number), 0) n FROM "
        "source UNION ALL SELECT coalesce(max(number), 0) FROM temp.staged_source)",
    [RECO_SQL_PUBLISH_SOURCES] =
        "INSERT INTO source(number, base) SELECT number, base FROM temp.staged_source",
    [RECO_SQL_PUBLISH] = "INSERT" STAGED_PAIRS,
    [RECO_SQL_FILL] = "REPLACE" STAGED_PAIRS,
    [RECO_SQL_RESERVE] = /* as long as RECO_SQL_FILL makes them, and of no index */
    "INSERT INTO pair(id, caption, meta, deleted, sum, source) SELECT id, caption, "
    "hex(zeroblob((ifnull(length(CAST(uri AS BLOB)), 0) + ifnull(length(CAST(meta AS BLOB)), 0) + "
    "ifnull(length(place), 0) + ifnull(length(content), 0)) / 2 + 3)), 0, sum, source FROM temp.staged "
    "ORDER BY id",
    [RECO_SQL_COUNT_STAGED] = /* entries for the indexes of indexes.c, in its order */
    "SELECT count(uri), count(place), count(content), count(CASE WHEN place IS NULL THEN uri END) FROM "
    "temp.staged",
    [RECO_SQL_PUBLISH_CHANGES] =
        "UPDATE pair SET caption = c.caption, uri = c.uri, meta = c.meta, sum = c.sum, source = c.source, "
        "place = c.place, content = c.content FROM temp.changed c WHERE pair.id = c.id AND NOT "
        "pair.deleted",
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
    [RECO_SQL_SEALED_SOURCES] = "SELECT * FROM source ORDER BY number",
    [RECO_SQL_SEAL] = "SELECT sum FROM seal",
    [RECO_SQL_RESEAL] = "UPDATE seal SET sum = ?1",
    [RECO_SQL_DROP_SEGMENT] = "DELETE FROM segment WHERE number = ?1",
    [RECO_SQL_DROP_BLOCK] = "DELETE FROM block WHERE segment = ?1",
    [RECO_SQL_DROP_DELETED] = "DELETE FROM pair WHERE deleted",
    [RECO_SQL_NONE_DELETED] = "UPDATE bank SET deleted = 0, next_segment = ?1",
    [RECO_SQL_BLOCK] = "SELECT bytes, sums FROM block WHERE segment = ?1",
    [RECO_SQL_PAIRS] = "SELECT caption, uri, meta, (SELECT base FROM source WHERE number = pair.source), "
                       "place, content, deleted, sum, source, id FROM pair ORDER BY id",
    [RECO_SQL_PUT] = PUT PUT_1,
    [RECO_SQL_PUT_MANY] = PUT PUT_8 ", " PUT_8 ", " PUT_8 ", " PUT_8,
    [RECO_SQL_MERGE_STATE] = "SELECT round, taken, met, next_id FROM merging",
    [RECO_SQL_MERGE_SAVE] = "UPDATE merging SET round = ?1, taken = ?2, met = ?3, next_id = ?4",
    [RECO_SQL_MERGE_JOBS] = "SELECT key, next FROM job WHERE done = 1",
    [RECO_SQL_MERGE_NAMELESS] = "SELECT EXISTS(SELECT 1 FROM pair WHERE uri IS NULL AND deleted = 0)",
    [RECO_SQL_MERGE_ADD_JOB] = "INSERT OR IGNORE INTO job(key, next, done) VALUES(?1, ?2, 1)",
    [RECO_SQL_MERGE_PLACES] = /* of the index alone, in its order */
    "SELECT place, min(id), max(id) FROM pair INDEXED BY pair_place WHERE place IS NOT NULL "
    "GROUP BY place HAVING count(*) > 1",
    [RECO_SQL_MERGE_OF_PLACE] =
        "SELECT id, caption, content, 1, uri FROM pair INDEXED BY pair_place WHERE place = ?1 ORDER BY id",
    [RECO_SQL_MERGE_URIS] = "SELECT uri FROM pair INDEXED BY pair_unplaced WHERE place IS NULL AND "
                            "uri IS NOT NULL GROUP BY uri",
    [RECO_SQL_MERGE_OF_URI] =
        "SELECT id, caption, content, place IS NOT NULL, uri FROM pair INDEXED BY pair_uri WHERE uri = ?1 "
        "AND uri IS NOT NULL AND id NOT IN (SELECT number FROM merge_dropped) ORDER BY id",
    [RECO_SQL_MERGE_DROP] = "INSERT INTO merge_dropped VALUES(?1, ?2, ?3)",
    [RECO_SQL_MERGE_DROPPED] =
        "SELECT number FROM merge_dropped WHERE number >= ?1 ORDER BY number LIMIT ?2",
    [RECO_SQL_MERGE_REFUSED] = "SELECT number, uri FROM merge_dropped WHERE fate = 3 ORDER BY number",
    [RECO_SQL_MERGE_COUNTS] = "SELECT fate, count(*) FROM merge_dropped GROUP BY fate",
    [RECO_SQL_INTEGRITY] = "PRAGMA integrity_check",
    [RECO_SQL_PICK_ID] = /* one that is picked already counts, too */
    "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair WHERE id = ?1 AND deleted = ?2",
    [RECO_SQL_PICK_URI] = "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair "
                          "WHERE (uri = ?1 OR place = ?3) AND deleted = ?2",
    [RECO_SQL_PICK_DELETED] =
        "INSERT OR REPLACE INTO temp.picked SELECT id FROM pair INDEXED BY pair_deleted WHERE deleted",
    [RECO_SQL_FIND_DOUBLES] = /* of those that would come back, the newest does */
    "INSERT OR REPLACE INTO temp.doubled SELECT p.id FROM temp.picked JOIN pair p USING(id) WHERE EXISTS "
    "(SELECT 1 FROM pair o WHERE o.place = p.place AND length(o.caption) = length(p.caption) AND "
    "substr(o.caption, -16) = substr(p.caption, -16) AND +o.caption = p.caption AND o.id <> p.id AND "
    "(NOT o.deleted OR (o.id > p.id AND o.id IN (SELECT id FROM temp.picked)))) OR EXISTS "
    "(SELECT 1 FROM pair o INDEXED BY pair_unplaced WHERE p.place IS NOT NULL AND o.place IS NULL AND "
    "o.uri IS NOT NULL AND o.uri = p.uri AND o.caption = p.caption AND "
    "(NOT o.deleted OR (o.id > p.id AND o.id IN (SELECT id FROM temp.picked)))) OR EXISTS "
    "(SELECT 1 FROM pair o WHERE p.place IS NULL AND o.uri = p.uri AND o.caption = p.caption AND "
    "o.id <> p.id AND (NOT o.deleted OR (o.id > p.id AND o.id IN (SELECT id FROM temp.picked))))",
    [RECO_SQL_DOUBLED] = "SELECT id FROM temp.doubled WHERE id >= ?1 ORDER BY id LIMIT ?2",
    [RECO_SQL_PICKED] = "SELECT id FROM temp.picked WHERE id >= ?1 ORDER BY id LIMIT ?2",
    [RECO_SQL_MARK_PICKED] = "UPDATE pair SET deleted = ?1, sum = ~sum "
                             "WHERE id IN (SELECT id FROM temp.picked) AND deleted = 1 - ?1",
    [RECO_SQL_COUNT_DELETED] = "UPDATE bank SET deleted = deleted + ?1",
};
