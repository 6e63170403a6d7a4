# docker build -t vts_ros .
# docker run --rm --network host --ipc host vts_ros ros2 launch vts_ros vts.launch.py cameras:=camera/front
# --ipc host: Fast DDS moves pictures between processes of one machine through shared memory.
FROM ros:jazzy-ros-base
SHELL ["/bin/bash", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv python3-colcon-common-extensions \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY . src/vts_ros
# Left out: what is for desktops or tests, and cv_bridge of apt, which does not work with NumPy 2.
RUN apt-get update && . /opt/ros/jazzy/setup.bash && rosdep update \
    && rosdep install --from-paths src --ignore-src -y --dependency-types=exec \
        --skip-keys 'rviz2 compressed_image_transport cv_bridge' \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE && . .venv/bin/activate \
    && . /opt/ros/jazzy/setup.bash \
    && pip install --no-cache-dir -c src/vts_ros/constraints.txt './src/vts_ros[cpu,tools]' && pip uninstall -y vts-ros \
    && python3 -m colcon build --packages-select vts_ros
ENV ROS_LOG_DIR=/tmp/ros VTS_CACHE_DIR=/tmp/vts
ENTRYPOINT ["/bin/bash", "-c", ". /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "vts_ros", "vts.launch.py"]
