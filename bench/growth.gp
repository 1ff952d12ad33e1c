# Time and memory of a bank as it grows; rows of "rows build_s all_s one_s build_mb search_mb" on standard input.
set terminal svg size 900,380 font "sans-serif,12" background "white"
set output out
set table $t
plot "/dev/stdin" using 1:2:3:4:5:6 with table
unset table
set multiplot layout 1,2
set logscale x
set xlabel "rows"
set grid
set key top left
set format x "10^{%L}"
set logscale y
set ylabel "seconds"
plot $t using 1:2 with linespoints title "build from .npy", \
     $t using 1:3 with linespoints title "1,024 queries", \
     $t using 1:4 with linespoints title "1 query"
unset logscale y
set yrange [0:120]
set ylabel "MB beside the mapped files"
plot $t using 1:5 with linespoints title "build", \
     $t using 1:6 with linespoints title "search, 1,024 queries"
unset multiplot
